"""Libraries that come with an extra of the package."""

import importlib
from typing import Any

from splitfl.core.errors import ConfigError


def optional(module: str, needs: str, extra: str) -> Any:
    """This module. Without it raises ConfigError with what `needs` it and how to install the extra."""
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigError(f"{needs}: pip install 'splitfl[{extra}]'") from None
