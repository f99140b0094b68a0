"""The exceptions of splitfl.

SplitflError
|-- ConfigError      an invalid setting (also a ValueError)
|   `-- CutError     a model that cannot be cut as asked
|-- DataError        missing or malformed data (also a ValueError)
|-- ModelMissing     weights that are not on this machine and cannot be fetched
|-- WireError        an invalid frame (also a ValueError)
|-- Undelivered      a message that the link failed to deliver
|-- Diverged         a loss beyond train.max_loss, or trained values that are not finite
`-- PeerLost         a peer that disconnected or did not answer
    |-- Timeout
    |-- RunEnded     the server has ended the run, for this client or for all
    `-- RejoinRequired  the run rolled back or continued without this client
"""


class SplitflError(Exception):
    """Base class of this package's exceptions."""


class ConfigError(SplitflError, ValueError):
    """A setting is invalid; the message names it, its value and the allowed values."""


class CutError(ConfigError):
    """A model cannot be cut as asked."""


class DataError(SplitflError, ValueError):
    """Data are missing or malformed; the message names the file and the line."""


class ModelMissing(SplitflError):
    """Model weights are not on this machine and cannot be fetched."""


class WireError(SplitflError, ValueError):
    """A received frame is damaged, too large, of another version, or of an unknown kind."""


class Undelivered(SplitflError):
    """The link failed to deliver a message that the method requires."""


class Diverged(SplitflError):
    """A loss is above train.max_loss, or a loss or trained tensor is not finite; the message says where."""


class PeerLost(SplitflError):
    """A peer disconnected or could not be reached."""


class Timeout(PeerLost):
    """A peer did not answer within the time allowed."""


class RunEnded(PeerLost):
    """The server has ended the run; a retry is useless."""


class RejoinRequired(PeerLost):
    """The run rolled back or continued without this client, which must rejoin to learn the round."""
