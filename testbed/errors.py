"""Exceptions of the testbed package.

SplitflError (splitfl.core.errors)
|-- ConfigError
|   |-- NotRoot        root privileges are missing
|   `-- RejectedByPeer        the peer rejects this one permanently
|-- CommandFailed      a system program failed
|-- NodesFailed        something failed on some of a testbed's nodes
|-- LateBurst          the time of a burst has passed
|-- RadioTimeout       a radio gave no samples in time
|-- RadioFailed        a radio's driver reports an error
|-- RecordingEnded     a recording has no more samples
`-- SamplesLost        a radio lost too many samples
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


class RadioFailed(SplitflError):
    """The driver of a radio reports an error that a retry does not change."""


class RecordingEnded(SplitflError):
    """A recording that is played has no more samples."""


class SamplesLost(SplitflError):
    """A radio lost more samples than a link can bear; the message has a sample rate to try."""
