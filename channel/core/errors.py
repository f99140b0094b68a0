"""Exceptions of the channel package.

ChannelError
|-- BadParameter    a setting outside its range (also a ValueError)
`-- NoDevice        live emulation needs a device or permission that this machine lacks
"""


class ChannelError(Exception):
    """Base class of all exceptions that this package raises."""


class BadParameter(ChannelError, ValueError):
    """A setting lies outside its range; the message has its name, its value and its range."""


class NoDevice(ChannelError):
    """Live emulation needs a device that is missing or not permitted; the message has the remedy."""
