"""Packages of the extra `compression`."""

import importlib
from typing import Any

from splitfl.core.errors import ConfigError


def extra(package: str, codec: str) -> Any:
    """This package; raises ConfigError with what to install if it is absent."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError:
        raise ConfigError(
            f"the codec {codec!r} needs the package {package}: pip install 'splitfl[compression]'"
        ) from None
