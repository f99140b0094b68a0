"""The doctor's findings and advice."""

from dataclasses import dataclass
from typing import Final

GOOD, WARNING, BAD, INFO = "ok", "warning", "bad", "info"
ACCESS: Final = "access"
OWN_NAME: Final = "own name"
"""The address of a machine's own name: splitfl does not publish it, other programs might."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of one check of a node or a path: `state` is ok, warning, bad or info."""

    node: str
    check: str
    state: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Whether a transport will work between these machines, and the reason."""

    transport: str
    works: bool
    why: str
