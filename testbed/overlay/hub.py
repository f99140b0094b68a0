"""The hub of an overlay: admits clients, assigns addresses, and forwards packets between them."""

import ipaddress
import queue
import re
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from splitfl.core.errors import ConfigError, SplitflError, WireError
from testbed.overlay import frames
from testbed.overlay.addresses import Addresses
from testbed.overlay.endpoints import refuse_in_use
from testbed.overlay.stream import Stream
from testbed.overlay.tls import HubTokens, common_name
from testbed.overlay.tun import Tun

HANDSHAKE_S: Final = 10.0
PING_S: Final = 5.0
SILENCE_S: Final = 15.0
_MAX_HANDSHAKES: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(eq=False)
class Member:
    """An admitted client."""

    name: str
    session: str
    address: ipaddress.IPv4Address
    stream: Stream
    packed: bytes = field(init=False)
    strays: int = 0

    def __post_init__(self) -> None:
        self.packed = self.address.packed


class Hub:
    """Listens on one port; its own machine has the network's first address, on a TUN device."""

    def __init__(
        self,
        listener: socket.socket,
        network: ipaddress.IPv4Network,
        context: ssl.SSLContext,
        tokens: HubTokens | None,
        mtu: int,
        say: Callable[[str], None],
    ) -> None:
        """Raises ConfigError without any client authentication, and for a network in use on this machine."""
        if tokens is None and context.verify_mode is not ssl.CERT_REQUIRED:
            raise ConfigError(
                "a hub needs a token file, or an authority that signs the clients' certificates, or both"
            )
        if not frames.MIN_MTU <= mtu <= frames.MAX_MTU:
            raise ConfigError(f"the MTU must lie in {frames.MIN_MTU}..{frames.MAX_MTU}, got {mtu}")
        self._listener, self._context, self._tokens, self._say = listener, context, tokens, say
        refuse_in_use(network)
        self._addresses = Addresses(network)
        self._tun = Tun(f"{self._addresses.hub}/{network.prefixlen}", mtu)
        self._members: dict[bytes, Member] = {}
        self._arrived: queue.SimpleQueue[tuple[Stream, frames.Hello]] = queue.SimpleQueue()
        self._handshakes = threading.BoundedSemaphore(_MAX_HANDSHAKES)
        self._wake_sender, self._wake_receiver = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._waiting: set[Member] = set()
        self._over = False

    def run(self) -> None:
        """Forwards packets until `stop`."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._wake_receiver, selectors.EVENT_READ)
        self._selector.register(self._tun, selectors.EVENT_READ)
        next_check_s = time.monotonic() + 1.0
        try:
            while not self._over:
                for key, events in self._selector.select(1.0):
                    self._serve(key, events)
                if time.monotonic() >= next_check_s:
                    self._check_members()
                    next_check_s = time.monotonic() + 1.0
        finally:
            self._close()

    def stop(self) -> None:
        """Ends `run`, from any thread."""
        self._over = True
        self._wake_sender.send(b"!")

    def _serve(self, key: selectors.SelectorKey, events: int) -> None:
        if isinstance(key.data, Member):
            self._or_lose(key.data, self._receive if events & selectors.EVENT_READ else self._flush)
        elif key.fileobj is self._tun:
            for packet in self._tun.packets():
                self._forward(packet)
        elif key.fileobj is self._listener:
            self._accept()
        else:
            self._wake_receiver.recv(4096)
            while not self._arrived.empty():
                self._admit(*self._arrived.get())
        for member in list(self._waiting):
            self._or_lose(member, self._flush)

    def _receive(self, member: Member) -> None:
        for kind, payload in member.stream.frames():
            if kind == frames.PACKET:
                if payload[0] >> 4 != 4:
                    raise WireError("a packet that is not IPv4")
                if payload[12:16] != member.packed:
                    member.strays += 1
                    continue
                self._forward(payload)

    def _forward(self, packet: bytes | memoryview) -> None:
        to = bytes(packet[16:20])
        if (member := self._members.get(to)) is not None:
            if not member.stream.is_blocked:  # a blocked stream is flushed once it is writable
                self._waiting.add(member)
            member.stream.put(packet)
        elif to == self._addresses.hub.packed:
            self._tun.write(packet)

    def _flush(self, member: Member) -> None:
        member.stream.flush()
        self._waiting.discard(member)
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if member.stream.is_blocked else 0)
        if self._selector.get_key(member.stream).events != wanted:
            self._selector.modify(member.stream, wanted, member)

    def _or_lose(self, member: Member, act: Callable[[Member], None]) -> None:
        if self._members.get(member.packed) is not member:
            return
        try:
            act(member)
        except SplitflError as error:
            self._lose(member, str(error))

    def _lose(self, member: Member, reason: str) -> None:
        del self._members[member.packed]
        self._waiting.discard(member)
        self._selector.unregister(member.stream)
        member.stream.close()
        self._say(f"{member.name} ({member.address}) disconnected: {reason}")

    def _check_members(self) -> None:
        now_s = time.monotonic()
        for member in list(self._members.values()):
            if now_s - member.stream.heard_s > SILENCE_S:
                self._lose(member, f"no data for {SILENCE_S:g} s")
                continue
            if member.strays:
                self._say(
                    f"{member.name}: dropped {member.strays} packets with other source addresses than its own"
                )
                member.strays = 0
            if now_s - member.stream.spoke_s > PING_S and not member.stream.is_blocked:
                member.stream.ping()
                self._or_lose(member, self._flush)

    def _accept(self) -> None:
        try:
            connection, peer = self._listener.accept()
        except OSError:
            return  # the peer closed the connection meanwhile
        if not self._handshakes.acquire(blocking=False):
            connection.close()
            return
        threading.Thread(
            target=self._handshake, args=(connection, peer), name="handshake", daemon=True
        ).start()

    def _handshake(self, connection: socket.socket, peer: tuple[str | int, ...]) -> None:
        """Runs in its own thread, so that a slow or silent peer does not block others."""
        connection.settimeout(HANDSHAKE_S)
        stream = None
        try:
            stream = Stream(self._context.wrap_socket(connection, server_side=True))
            kind, payload = stream.first(HANDSHAKE_S)
            if kind != frames.HELLO:
                raise WireError(f"a frame of kind {kind} before the hello")
            hello = frames.decode_control(frames.Hello, payload)
            if reason := self._objection(hello, stream):
                self._say(f"{peer[0]} refused: {reason}")
                stream.refuse(reason, is_final=True)
            else:
                self._arrived.put((stream, hello))
                self._wake_sender.send(b"!")
        except (SplitflError, OSError) as error:
            if stream is not None:
                stream.refuse(str(error), is_final=isinstance(error, WireError))
            connection.close()
            self._say(f"{peer[0]} refused: {error}")
        finally:
            self._handshakes.release()

    def _objection(self, hello: frames.Hello, stream: Stream) -> str:
        if not _NAME.fullmatch(hello.name):
            return "a name must have 1 to 64 letters, digits, dots, dashes and underscores"
        if self._tokens is not None and not self._tokens.admits(hello.name, hello.token):
            return f"wrong token for {hello.name!r}"
        certified = common_name(stream.certificate())
        if certified and certified != hello.name:
            return f"its certificate is for {certified!r}, but its name is {hello.name!r}"
        return ""

    def _admit(self, stream: Stream, hello: frames.Hello) -> None:
        for member in list(self._members.values()):
            if member.name == hello.name and member.session != hello.session:
                stream.refuse(f"another {hello.name!r} is connected", is_final=False)
                return
            if member.name == hello.name:
                self._lose(member, "reconnects")
        address = self._addresses.of(hello.name, hello.address)
        if address is None:
            stream.refuse("the network has no address left", is_final=False)
            return
        member = Member(hello.name, hello.session, address, stream)
        welcome = frames.Welcome(
            address=f"{address}/{self._addresses.network.prefixlen}",
            hub=str(self._addresses.hub),
            mtu=self._tun.mtu,
        )
        stream.begin(frames.encode_control(frames.WELCOME, welcome))
        self._members[member.packed] = member
        self._selector.register(stream, selectors.EVENT_READ, member)
        self._waiting.add(member)
        self._say(f"{member.name} connected, at {address}")

    def _close(self) -> None:
        for member in self._members.values():
            member.stream.close()
        for end in (self._wake_sender, self._wake_receiver, self._listener):
            end.close()
        self._selector.close()
        self._tun.close()
