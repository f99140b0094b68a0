"""What can go wrong in the channel.

ChannelError
|-- BadParameter    a setting outside its range (also a ValueError)
`-- NoDevice        something of this machine that live emulation takes and cannot have
"""


class ChannelError(Exception):
    """Anything this package raises on purpose."""


class BadParameter(ChannelError, ValueError):
    """A setting lies outside its range; the message names it, what it got and what it may be."""


class NoDevice(ChannelError):
    """Live emulation takes a device that is missing or not allowed; the message says what to do."""
