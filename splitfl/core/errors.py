"""What can go wrong in splitfl.

SplitflError
|-- ConfigError      a setting that cannot be obeyed (also a ValueError)
|   `-- CutError     a model that cannot be cut as asked
|-- DataError        data that are missing or malformed (also a ValueError)
|-- ModelMissing     weights that are neither on this machine nor to be had
|-- WireError        a frame that is not what it should be (also a ValueError)
|-- Undelivered      a message that the link gave up on
|-- Diverged         a loss that is beyond all bounds, or numbers that are not finite in what was learnt
`-- PeerLost         a peer that did not answer in time
    |-- Timeout
    |-- RunEnded     the server will not go on with this client, or with anybody
    `-- Again        the server goes on from an earlier round, and so must its clients
"""


class SplitflError(Exception):
    """Anything this package raises on purpose."""


class ConfigError(SplitflError, ValueError):
    """A setting cannot be obeyed; the message names it, what it got and what it may be."""


class CutError(ConfigError):
    """A model cannot be cut as asked."""


class DataError(SplitflError, ValueError):
    """Data are missing or malformed; the message names the file and the line."""


class ModelMissing(SplitflError):
    """Model weights are not on this machine and cannot be fetched."""


class WireError(SplitflError, ValueError):
    """A received frame is damaged, too large, of another version, or of an unknown kind."""


class Undelivered(SplitflError):
    """The link gave up on a message that the method cannot do without."""


class Diverged(SplitflError):
    """A loss, or what was learnt, is not finite or larger than could be right; the message says where."""


class PeerLost(SplitflError):
    """A peer went away or was never there."""


class Timeout(PeerLost):
    """A peer did not answer within the time allowed."""


class RunEnded(PeerLost):
    """The server said that it will not go on; asking again is of no use."""


class RejoinRequired(PeerLost):
    """The server goes on from where another round began: clients ask it from which."""
