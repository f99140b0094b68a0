"""Libraries that come with an extra of the package."""

import importlib
from importlib.util import find_spec
from typing import Any

from splitfl.core.errors import ConfigError


def optional(module: str, needs: str, extra: str) -> Any:
    """This module. Without it raises ConfigError with what `needs` it and how to install the extra."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise _missing(needs, extra) from None


def require(package: str, needs: str, extra: str) -> None:
    """Raises the error of `optional` without this package, which is not imported."""
    if find_spec(package) is None:
        raise _missing(needs, extra)


def _missing(needs: str, extra: str) -> ConfigError:
    return ConfigError(f"{needs}: pip install 'splitfl[{extra}]'")
