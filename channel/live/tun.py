"""TUN devices: IP packets that the kernel routes to the device are read from a descriptor, and vice versa."""

import errno
import fcntl
import os
import struct
from typing import Final

from channel.core.errors import BadParameter, NoDevice

_DEVICE: Final = "/dev/net/tun"
# linux/if_tun.h; IFF_NO_PI omits the four bytes of packet information.
_TUNSETIFF: Final = 0x400454CA
_IFF_TUN: Final = 0x0001
_IFF_NO_PI: Final = 0x1000
_NAME_BYTES: Final = 16


def open_tun(name: str) -> int:
    """A non-blocking descriptor of a new device in the network namespace of this thread.

    One read or write is one IP packet. Closing the descriptor removes the device. Raises BadParameter for
    an invalid device name, NoDevice if TUN is missing or not permitted.
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
        errno.ENOENT: "the kernel has no TUN (modprobe tun), or this container has no access to the device",
        errno.EPERM: "root with CAP_NET_ADMIN is needed",
        errno.EACCES: "root with CAP_NET_ADMIN is needed",
        errno.EBUSY: "a device of this name exists already",
    }
    return f"cannot open {_DEVICE}: {hints.get(error.errno or 0, error.strerror)}"
