"""Federated split learning of Hugging Face models over wireless links.

`run`, `plan`, `compare` and `load_run` are experiments from Python; `split` and `split_pretrained` give the
pieces of a model for a loop of one's own; the names in capitals are the registries of plug-ins.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from splitfl.adapters.registry import ADAPTERS
    from splitfl.api import compare, load_run, plan, run
    from splitfl.data.tasks import TASKS
    from splitfl.methods.registry import METHODS
    from splitfl.models.split import split, split_pretrained
    from splitfl.privacy.registry import ATTACKS
    from splitfl.runtime.screen import Silent
    from splitfl.setup.link_kinds import LINKS
    from splitfl.tracking.registry import TRACKERS
    from splitfl.transport.registry import TRANSPORTS
    from splitfl.wire.codecs import CODECS

__all__ = [
    "ADAPTERS",
    "ATTACKS",
    "CODECS",
    "LINKS",
    "METHODS",
    "TASKS",
    "TRACKERS",
    "TRANSPORTS",
    "Silent",
    "compare",
    "load_run",
    "plan",
    "run",
    "split",
    "split_pretrained",
]

_HOME = {
    "ADAPTERS": "splitfl.adapters.registry",
    "ATTACKS": "splitfl.privacy.registry",
    "CODECS": "splitfl.wire.codecs",
    "LINKS": "splitfl.setup.link_kinds",
    "METHODS": "splitfl.methods.registry",
    "Silent": "splitfl.runtime.screen",
    "TASKS": "splitfl.data.tasks",
    "TRACKERS": "splitfl.tracking.registry",
    "TRANSPORTS": "splitfl.transport.registry",
    "compare": "splitfl.api",
    "load_run": "splitfl.api",
    "plan": "splitfl.api",
    "run": "splitfl.api",
    "split": "splitfl.models.split",
    "split_pretrained": "splitfl.models.split",
}
"""Where each name lives: it is imported, and torch with it, when it is first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return __all__
