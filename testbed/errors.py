"""Exceptions of the testbed package.

SplitflError (splitfl.core.errors)
|-- ConfigError
|   |-- NotRoot        root privileges are missing
|   `-- RejectedByPeer        the peer rejects this one permanently
`-- CommandFailed      a system program failed
"""

from splitfl.core.errors import ConfigError, SplitflError


class NotRoot(ConfigError):
    """The operation needs root on Linux, or a capability that this root lacks."""


class RejectedByPeer(ConfigError):
    """The peer rejects this one for a reason that a retry does not change."""


class CommandFailed(SplitflError):
    """A subprocess failed; the message has its standard error."""
