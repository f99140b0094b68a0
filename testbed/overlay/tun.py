"""The TUN interface of a machine in an overlay."""

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from typing import Final

from channel.core.closing import Closing
from channel.core.errors import NoDevice
from channel.live.tun import open_tun
from splitfl.core.errors import ConfigError
from testbed.namespaces import ip

_TUNGETIFF: Final = 0x800454D2  # linux/if_tun.h
_QUEUE_BYTES: Final = 1 << 20
_READ_BYTES: Final = 1 << 17


class Tun(Closing):
    """An interface with one IPv4 address, in the caller's network namespace; removed when closed.

    The kernel queues about 1 MiB of unread packets and drops further ones.
    Raises ConfigError if TUN is missing or not permitted. In `name`, %d is the first free number.
    """

    def __init__(self, address: str, mtu: int, name: str = "splitfl%d") -> None:
        self.mtu = mtu
        try:
            self._file = open_tun(name)
        except NoDevice as error:
            raise ConfigError(str(error)) from None
        try:
            self.name = self._name()
            self.address = self._set_up(address)
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        return self._file

    def packets(self) -> Iterator[bytes]:
        """The queued packets, at most about 128 KiB of them."""
        read_bytes = 0
        while read_bytes < _READ_BYTES:
            try:
                packet = os.read(self._file, self.mtu)
            except BlockingIOError:
                return
            read_bytes += len(packet)
            yield packet

    def write(self, packet: bytes | memoryview) -> bool:
        """Passes a packet to the kernel; False if the kernel rejects it or has no buffer space."""
        try:
            os.write(self._file, packet)
        except OSError as error:
            if error.errno in (errno.EINVAL, errno.ENOBUFS, errno.EAGAIN, errno.EIO):
                return False
            raise
        return True

    def close(self) -> None:
        os.close(self._file)

    def _name(self) -> str:
        answer = fcntl.ioctl(self._file, _TUNGETIFF, bytes(40))
        return str(struct.unpack_from("16s", answer)[0].rstrip(b"\0").decode())

    def _set_up(self, address: str) -> str:
        packets = max(16, _QUEUE_BYTES // self.mtu)
        ip("link", "set", self.name, "mtu", str(self.mtu), "txqueuelen", str(packets), "addrgenmode", "none")
        ip("address", "add", address, "dev", self.name)
        ip("link", "set", self.name, "up")
        return address
