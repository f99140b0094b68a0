"""Exceptions of the testbed package.

SplitflError (splitfl.core.errors)
|-- ConfigError
|   |-- NotRoot        root privileges are missing
|   `-- RejectedByPeer        the peer rejects this one permanently
|-- CommandFailed      a system program failed
|-- NodesFailed        something failed on some of a testbed's nodes
|-- LateBurst          the time of a burst has passed
`-- RadioTimeout       a radio gave no samples in time
"""

from collections.abc import Mapping

from splitfl.core.errors import ConfigError, SplitflError


class NotRoot(ConfigError):
    """The operation needs root on Linux, or a capability that this root lacks."""


class RejectedByPeer(ConfigError):
    """The peer rejects this one for a reason that a retry does not change."""


class CommandFailed(SplitflError):
    """A subprocess failed; the message has its standard error."""


class NodesFailed(SplitflError):
    """Something failed on some nodes; the message has a line with the reason for each."""

    def __init__(self, what: str, reasons: Mapping[str, str], nodes: int) -> None:
        lines = [f"  {name}: {reason}" for name, reason in reasons.items()]
        super().__init__("\n".join([f"{len(reasons)} of {nodes} nodes: {what}", *lines]))
        self.reasons = dict(reasons)


class LateBurst(SplitflError):
    """A burst came after its time, or would begin before the one before it ends; it was not sent."""


class RadioTimeout(SplitflError):
    """A radio gave too few samples within its timeout."""
