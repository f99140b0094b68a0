"""Frames over a non-blocking TLS connection with a bounded send queue."""

import socket
import ssl
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Final

from splitfl.core.errors import PeerLost, Timeout, WireError
from testbed.errors import RejectedByPeer
from testbed.overlay.frames import (
    HEADER,
    MAX_PAYLOAD_BYTES,
    PACKET,
    PING,
    REFUSED,
    VERSION,
    Refused,
    encode_control,
    frame,
    header,
)

QUEUE_BYTES: Final = 4 << 20
_SEND_BYTES: Final = 1 << 16
_RECORD_BYTES: Final = 1 << 14  # a TLS record, of which a read takes one
_READS: Final = 8
_UNSENT_BYTES: Final = 1 << 17
_REFUSAL_S: Final = 2.0
_WANTS = (ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Stream:
    """One end of a connection after its TLS handshake.

    Packets that do not fit into the queue are dropped, as by a router, and counted in `dropped`.
    Raises PeerLost if the connection is lost, and WireError for an invalid frame.
    """

    def __init__(self, connection: ssl.SSLSocket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Unsent data in the kernel delays every later packet, so its buffer is kept small.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES)
        self._socket = connection
        self._out = bytearray()
        self._in = bytearray(MAX_PAYLOAD_BYTES + HEADER.size + _READS * _RECORD_BYTES)
        self._filled = 0
        self.dropped = 0
        self.heard_s = self.spoke_s = time.monotonic()

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def is_blocked(self) -> bool:
        """Whether the queue is not empty; after `flush`, because the connection is not writable."""
        return bool(self._out)

    def put(self, packet: bytes | memoryview) -> None:
        """Queues a packet; `flush` sends it."""
        if len(self._out) + len(packet) > QUEUE_BYTES:
            self.dropped += 1
            return
        self._out += HEADER.pack(VERSION, PACKET, len(packet))
        self._out += packet

    def ping(self) -> None:
        """Queues a keep-alive frame."""
        self._out += frame(PING, b"")

    def flush(self) -> None:
        """Sends queued data until the connection is not writable."""
        try:
            while self._out:
                with memoryview(self._out) as waiting, waiting[:_SEND_BYTES] as piece:
                    sent = self._socket.send(piece)
                del self._out[:sent]
                self.spoke_s = time.monotonic()
        except _WANTS:
            return
        except OSError as error:
            raise PeerLost(_reason(error)) from None

    def frames(self) -> Iterator[tuple[int, memoryview]]:
        """The complete frames received, as kind and payload; a payload is valid until the next iteration."""
        for _ in range(_READS):
            if not (got := self._receive()):
                return
            self._filled += got
            yield from self._whole()

    def certificate(self) -> Mapping[str, object] | None:
        """The peer's certificate, if one was required."""
        return self._socket.getpeercert()

    def send_all(self, data: bytes, timeout_s: float) -> None:
        """Sends a frame, blocking; for the handshake only."""
        self._socket.settimeout(timeout_s)
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise PeerLost(_reason(error)) from None

    def refuse(self, reason: str, *, is_final: bool) -> None:
        """Sends the reason for the rejection, and closes."""
        with suppress(PeerLost):
            self.send_all(encode_control(REFUSED, Refused(reason=reason, is_final=is_final)), _REFUSAL_S)
        self.close()

    def first(self, timeout_s: float) -> tuple[int, bytes]:
        """Receives one frame, blocking; for the handshake only. Raises Timeout too."""
        deadline_s = time.monotonic() + timeout_s
        need = HEADER.size
        while self._filled < need:
            self._socket.settimeout(max(0.001, deadline_s - time.monotonic()))
            with memoryview(self._in) as buffer, buffer[self._filled : need] as free:
                try:
                    got = self._socket.recv_into(free)
                except ssl.SSLError as error:
                    if "ALERT" in (error.reason or ""):  # TLS 1.3 reports it after the client's handshake
                        raise RejectedByPeer(f"refused in the handshake: {_reason(error)}") from None
                    raise PeerLost(_reason(error)) from None
                except TimeoutError:
                    raise Timeout(f"no answer from the peer within {timeout_s:g} s") from None
                except OSError as error:
                    raise PeerLost(_reason(error)) from None
            if not got:
                raise PeerLost("the peer closed the connection")
            self._filled += got
            if self._filled >= HEADER.size:
                need = HEADER.size + header(self._in, 0)[1]
        kind, length = header(self._in, 0)
        payload = bytes(self._in[HEADER.size : HEADER.size + length])
        self._filled = 0
        return kind, payload

    def begin(self, welcome: bytes) -> None:
        """Ends the handshake: queues this frame and switches to non-blocking mode."""
        self._socket.setblocking(False)
        self.heard_s = self.spoke_s = time.monotonic()
        self._out += welcome

    def close(self) -> None:
        with suppress(OSError):
            self._socket.close()

    def _receive(self) -> int:
        with memoryview(self._in) as buffer, buffer[self._filled :] as free:
            try:
                got = self._socket.recv_into(free)
            except _WANTS:
                return 0
            except OSError as error:
                raise PeerLost(_reason(error)) from None
        if not got:
            raise PeerLost("the peer closed the connection")
        self.heard_s = time.monotonic()
        return got

    def _whole(self) -> Iterator[tuple[int, memoryview]]:
        at = 0
        with memoryview(self._in) as buffer:
            while self._filled - at >= HEADER.size:
                kind, length = header(buffer, at)
                end = at + HEADER.size + length
                if end > self._filled:
                    break
                if kind not in (PACKET, PING):
                    raise WireError(f"a frame of kind {kind} after the handshake")
                with buffer[at + HEADER.size : end] as payload:
                    yield kind, payload
                at = end
        if at:
            self._in[: self._filled - at] = self._in[at : self._filled]
            self._filled -= at


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
