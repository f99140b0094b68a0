"""What can go wrong in the channel.

ChannelError
`-- BadParameter    a setting outside its range (also a ValueError)
"""


class ChannelError(Exception):
    """Anything this package raises on purpose."""


class BadParameter(ChannelError, ValueError):
    """A setting lies outside its range; the message names it, what it got and what it may be."""
