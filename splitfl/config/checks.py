"""Checks of settings; the errors name the setting, its value and the allowed values."""

import difflib
import math
from collections.abc import Iterable

from splitfl.core.errors import ConfigError


def one_of(name: str, got: str, allowed: Iterable[str]) -> None:
    """Raises ConfigError for a value that is not allowed, and suggests the nearest one."""
    allowed = sorted(allowed)
    if got not in allowed:
        raise ConfigError(f"unknown {name} {got!r};{nearest(got, allowed)} have {', '.join(allowed)}")


def nearest(got: str, allowed: Iterable[str]) -> str:
    """` did you mean 'x'?` for a close match or a common prefix, else ""."""
    close = difflib.get_close_matches(got, list(allowed), n=1)
    close += [name for name in allowed if len(got) > 1 and name.startswith(got)]
    return f" did you mean {close[0]!r}?" if close else ""


def at_least(name: str, got: float, least: float) -> None:
    """Raises ConfigError for a number below `least`, infinity and NaN."""
    _demand(name, got, got >= least, f"at least {least}")


def at_most(name: str, got: float, most: float) -> None:
    """Raises ConfigError for a number above `most`."""
    _demand(name, got, got <= most, f"at most {most}")


def above(name: str, got: float, bound: float) -> None:
    """Raises ConfigError for a number not above `bound`, infinity and NaN."""
    _demand(name, got, got > bound, f"above {bound}")


def _demand(name: str, got: float, is_good: bool, rule: str) -> None:
    if not is_good or got == math.inf:
        raise ConfigError(f"{name} must be {'a finite number' if got == math.inf else rule}, got {got}")
