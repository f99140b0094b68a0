"""Finds SoapySDR, which no package index has: its bindings are built for one version of Python."""

import importlib
import re
import sys
from pathlib import Path
from typing import Any

from splitfl.core.errors import ConfigError

_BINARY = re.compile(r"_SoapySDR\.cpython-(\d)(\d+)")


def import_soapy(folder: str = "") -> Any:
    """The module SoapySDR, from `folder` if it is not on Python's path.

    Raises ConfigError where it is missing, or was built for another version of Python.
    """
    if folder:
        sys.path.append(folder)
    try:
        return importlib.import_module("SoapySDR")
    except ImportError as error:
        raise ConfigError(_reason(folder, error)) from None
    finally:
        if folder:
            sys.path.remove(folder)


def _reason(folder: str, error: ImportError) -> str:
    own = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not folder:
        return (
            "this Python does not find SoapySDR: install python3-soapysdr and the module of your device, and "
            "set soapy_path to the folder of SoapySDR.py (Debian: /usr/lib/python3/dist-packages)"
        )
    if not (Path(folder) / "SoapySDR.py").exists():
        return f"soapy_path {folder} has no SoapySDR.py"
    built = [_BINARY.match(file.name) for file in Path(folder).glob("_SoapySDR*")]
    versions = sorted({f"{found[1]}.{found[2]}" for found in built if found is not None})
    if versions and own not in versions:
        return (
            f"SoapySDR in {folder} was built for Python {' and '.join(versions)}, but this is Python {own}: "
            f"run splitfl with Python {versions[-1]}, or build SoapySDR for {own}"
        )
    return f"SoapySDR in {folder} cannot be loaded: {error}"
