"""What the doctor found, one line each."""

from dataclasses import dataclass
from typing import Final

GOOD, WARNING, BAD, INFO = "ok", "warning", "bad", "info"
ACCESS: Final = "access"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One check on one node, or on the way between two: ok, warning, bad or info, and why."""

    node: str
    check: str
    state: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Whether a transport will work between these machines, and why or why not."""

    transport: str
    works: bool
    why: str
