"""What may stand in a setting: each check refuses by name, says what it got and what it may be."""

import difflib
from collections.abc import Iterable

from splitfl.core.errors import ConfigError


def one_of(name: str, got: str, allowed: Iterable[str]) -> None:
    """Refuses a word that is not among those allowed, suggesting the nearest."""
    allowed = sorted(allowed)
    if got not in allowed:
        raise ConfigError(f"unknown {name} {got!r};{nearest(got, allowed)} have {', '.join(allowed)}")


def nearest(got: str, allowed: Iterable[str]) -> str:
    """` did you mean 'x'?` where something is close enough or begins like that, else nothing."""
    close = difflib.get_close_matches(got, list(allowed), n=1)
    close += [name for name in allowed if len(got) > 1 and name.startswith(got)]
    return f" did you mean {close[0]!r}?" if close else ""


def at_least(name: str, got: float, least: float) -> None:
    """Refuses a number below `least`, and one that is not a number."""
    if not got >= least or got == float("inf"):
        raise ConfigError(f"{name} must be at least {least}, got {got}")


def above(name: str, got: float, bound: float) -> None:
    """Refuses a number that is not above `bound`, and one that is not a number."""
    if not got > bound or got == float("inf"):
        raise ConfigError(f"{name} must be above {bound}, got {got}")
