"""Exceptions of the testbed package.

SplitflError (splitfl.core.errors)
|-- ConfigError
|   |-- NotRoot        root privileges are missing
|   `-- RejectedByPeer        the peer rejects this one permanently
|-- CommandFailed      a system program failed
|-- LateBurst          the time of a burst has passed
`-- RadioTimeout       a radio gave no samples in time
"""

from splitfl.core.errors import ConfigError, SplitflError


class NotRoot(ConfigError):
    """The operation needs root on Linux, or a capability that this root lacks."""


class RejectedByPeer(ConfigError):
    """The peer rejects this one for a reason that a retry does not change."""


class CommandFailed(SplitflError):
    """A subprocess failed; the message has its standard error."""


class LateBurst(SplitflError):
    """A burst came after its time, or would begin before the one before it ends; it was not sent."""


class RadioTimeout(SplitflError):
    """A radio gave too few samples within its timeout."""
