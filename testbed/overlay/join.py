"""A client of an overlay: carries its packets over one outbound connection, and reconnects when it breaks."""

import ipaddress
import selectors
import socket
import ssl
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from typing import Final

from splitfl.core.errors import ConfigError, PeerLost, SplitflError, WireError
from splitfl.transport.base.addresses import joined
from testbed.errors import RejectedByPeer
from testbed.overlay import frames
from testbed.overlay.endpoints import refuse_in_use
from testbed.overlay.hub import HANDSHAKE_S, PING_S, SILENCE_S
from testbed.overlay.stream import Stream
from testbed.overlay.tun import Tun

_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 5.0


class Client:
    """One machine of an overlay. The network interface persists across reconnections."""

    def __init__(
        self,
        host: str,
        port: int,
        name: str,
        context: ssl.SSLContext,
        token: str,
        say: Callable[[str], None],
        server_name: str | None = None,
    ) -> None:
        self._host, self._port, self._context, self._say = host, port, context, say
        self._server_name = server_name or host
        self._name, self._token, self._session = name, token, uuid.uuid4().hex
        self._tun: Tun | None = None
        self._address = ""

    def run(self, patience_s: float) -> None:
        """Carries packets for ever, and reconnects with exponential back-off.

        Raises RejectedByPeer if the hub rejects this client permanently, ConfigError without TUN,
        PeerLost if the first connection takes longer than `patience_s`.
        """
        begun_s, wait_s = time.monotonic(), _FIRST_WAIT_S
        try:
            while True:
                try:
                    with closing(self._connect()) as stream:
                        wait_s = _FIRST_WAIT_S
                        self._carry(stream)
                except ConfigError:
                    raise
                except SplitflError as error:
                    if self._tun is None and time.monotonic() - begun_s > patience_s:
                        raise PeerLost(f"no overlay at {joined(self._host, self._port)}: {error}") from None
                    self._say(f"no connection to the hub ({error}); next attempt in {wait_s:g} s")
                time.sleep(wait_s)
                wait_s = min(2 * wait_s, _LONGEST_WAIT_S)
        finally:
            if self._tun is not None:
                self._tun.close()

    def _connect(self) -> Stream:
        try:
            plain = socket.create_connection((self._host, self._port), timeout=HANDSHAKE_S)
        except OSError as error:
            raise PeerLost(error.strerror or str(error)) from None
        try:
            stream = Stream(self._context.wrap_socket(plain, server_hostname=self._server_name))
        except ssl.SSLCertVerificationError as error:
            plain.close()
            raise RejectedByPeer(f"the hub's certificate is not trusted: {error.verify_message}") from None
        except OSError as error:
            plain.close()
            raise PeerLost(f"no TLS handshake: {error.strerror or error}") from None
        try:
            self._enter(stream)
        except WireError as error:
            stream.close()
            raise RejectedByPeer(f"the peer is not a hub of this overlay: {error}") from None
        except BaseException:
            stream.close()
            raise
        return stream

    def _enter(self, stream: Stream) -> None:
        hello = frames.Hello(
            name=self._name, session=self._session, token=self._token, address=self._address.split("/")[0]
        )
        stream.send_all(frames.encode_control(frames.HELLO, hello), HANDSHAKE_S)
        kind, payload = stream.first(HANDSHAKE_S)
        if kind == frames.REFUSED:
            refused = frames.decode_control(frames.Refused, payload)
            raise (RejectedByPeer if refused.is_final else PeerLost)(f"refused: {refused.reason}")
        if kind != frames.WELCOME:
            raise WireError(f"a frame of kind {kind} in place of the welcome")
        self._configure(frames.decode_control(frames.Welcome, payload))
        stream.begin(b"")

    def _configure(self, welcome: frames.Welcome) -> None:
        """Creates the interface, or recreates it if the hub assigned another address or MTU."""
        if self._tun is not None and (self._address, self._tun.mtu) != (welcome.address, welcome.mtu):
            self._tun.close()
            self._tun = None
        if self._tun is None:
            refuse_in_use(ipaddress.IPv4Interface(welcome.address).network)
            self._tun = Tun(welcome.address, welcome.mtu)
        self._address = welcome.address
        self._say(f"connected as {welcome.address} on {self._tun.name}; the hub is {welcome.hub}")

    def _carry(self, stream: Stream) -> None:
        assert self._tun is not None
        own = socket.inet_aton(self._address.split("/")[0])
        tun = self._tun
        with selectors.DefaultSelector() as selector:
            selector.register(tun, selectors.EVENT_READ)
            selector.register(stream, selectors.EVENT_READ)
            is_blocked = False
            while True:
                ready = {key.fileobj for key, events in selector.select(1.0)}
                if stream in ready:
                    _deliver(stream, tun, own)
                if tun in ready:
                    _collect(stream, tun, own)
                _keep_alive(stream)
                stream.flush()
                if stream.is_blocked != is_blocked:
                    is_blocked = stream.is_blocked
                    _await_room(selector, stream, tun) if is_blocked else _await_packets(
                        selector, stream, tun
                    )


def _await_room(selector: selectors.BaseSelector, stream: Stream, tun: Tun) -> None:
    """Stops reading packets, which then wait in the kernel's queue, until the connection is writable."""
    selector.unregister(tun)
    selector.modify(stream, selectors.EVENT_READ | selectors.EVENT_WRITE)


def _await_packets(selector: selectors.BaseSelector, stream: Stream, tun: Tun) -> None:
    selector.register(tun, selectors.EVENT_READ)
    selector.modify(stream, selectors.EVENT_READ)


def _collect(stream: Stream, tun: Tun, own: bytes) -> None:
    for packet in tun.packets():
        if packet[0] >> 4 == 4 and packet[12:16] == own:
            stream.put(packet)


def _deliver(stream: Stream, tun: Tun, own: bytes) -> None:
    for kind, payload in stream.frames():
        if kind == frames.PACKET and payload[16:20] == own:
            tun.write(payload)


def _keep_alive(stream: Stream) -> None:
    now_s = time.monotonic()
    if now_s - stream.heard_s > SILENCE_S:
        raise PeerLost(f"no data for {SILENCE_S:g} s")
    if now_s - stream.spoke_s > PING_S and not stream.is_blocked:
        stream.ping()
