"""A TUN device: what the kernel routes to it is read here, and what is written here arrives there."""

import errno
import fcntl
import os
import struct
from typing import Final

from channel.core.errors import BadParameter, NoDevice

_DEVICE: Final = "/dev/net/tun"
# linux/if_tun.h; packets come bare, without the four bytes in front that tell their kind.
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_NAME_BYTES: Final = 16


def open_tun(name: str) -> int:
    """A descriptor, non-blocking, of a new device in this thread's network namespace.

    One read or write is one IP packet. The device goes when the descriptor is closed. Raises BadParameter for
    a name that no device can have, NoDevice where TUN is missing or not allowed.
    """
    if not 0 < len(name.encode()) < _NAME_BYTES:
        raise BadParameter(f"a device's name must have 1 to {_NAME_BYTES - 1} bytes, got {name!r}")
    try:
        descriptor = os.open(_DEVICE, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise NoDevice(_sentence(error)) from None
    try:
        request = struct.pack(f"{_NAME_BYTES}sH22x", name.encode(), _IFF_TUN | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
    except OSError as error:
        os.close(descriptor)
        raise NoDevice(_sentence(error)) from None
    return descriptor


def _sentence(error: OSError) -> str:
    hints = {
        errno.ENOENT: "the kernel has no TUN (modprobe tun), or this container was not given the device",
        errno.EPERM: "it takes root, with CAP_NET_ADMIN",
        errno.EACCES: "it takes root, with CAP_NET_ADMIN",
        errno.EBUSY: "a device of this name is there already",
    }
    return f"cannot open {_DEVICE}: {hints.get(error.errno or 0, error.strerror)}"
