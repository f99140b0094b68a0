"""What can go wrong on a testbed.

SplitflError (splitfl.core.errors)
|-- ConfigError
|   |-- NotRoot        something that only root may do
|   `-- Refusal        a peer that does not take this one, and would not later either
`-- CommandFailed      a program of the system that ended badly
"""

from splitfl.core.errors import ConfigError, SplitflError


class NotRoot(ConfigError):
    """What was asked for needs root on Linux, and this process is not, or not enough of it."""


class Refusal(ConfigError):
    """The other side does not take this one, for a reason that trying again does not change."""


class CommandFailed(SplitflError):
    """A program that was started ended badly; the message has its words."""
