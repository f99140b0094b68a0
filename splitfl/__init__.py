"""Federated split learning of Hugging Face models over wireless links.

`run` and `load_run` are experiments from Python; `TRANSPORTS` is the registry of transports.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitfl.api import load_run, run
    from splitfl.transport.registry import TRANSPORTS

__all__ = ["TRANSPORTS", "load_run", "run"]

_HOME = {
    "TRANSPORTS": "splitfl.transport.registry",
    "load_run": "splitfl.api",
    "run": "splitfl.api",
}
"""Where each name lives: it is imported, and torch with it, when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
