"""The hub of an overlay: takes clients in, gives them addresses, and hands packets on between them."""

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
from testbed.overlay.tls import Tokens, common_name
from testbed.overlay.tun import Tun

HANDSHAKE_S: Final = 10.0
PING_S: Final = 5.0
SILENCE_S: Final = 15.0
_AT_THE_DOOR: Final = 32
_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


@dataclass(eq=False)
class Member:
    """A client that is in."""

    name: str
    session: str
    address: ipaddress.IPv4Address
    stream: Stream
    packed: bytes = field(init=False)
    strays: int = 0

    def __post_init__(self) -> None:
        self.packed = self.address.packed


class Hub:
    """Listens on one port; the machine itself has the network's first address, on a TUN device."""

    def __init__(
        self,
        listener: socket.socket,
        network: ipaddress.IPv4Network,
        context: ssl.SSLContext,
        tokens: Tokens | None,
        mtu: int,
        say: Callable[[str], None],
    ) -> None:
        """Raises ConfigError where nothing would keep strangers out, and for a network in use here."""
        if tokens is None and context.verify_mode is not ssl.CERT_REQUIRED:
            raise ConfigError(
                "a hub takes a token file, or an authority whose certificates clients have, or both"
            )
        if not frames.MIN_MTU <= mtu <= frames.MAX_MTU:
            raise ConfigError(f"the MTU must lie in {frames.MIN_MTU}..{frames.MAX_MTU}, got {mtu}")
        self._listener, self._context, self._tokens, self._say = listener, context, tokens, say
        refuse_in_use(network)
        self._addresses = Addresses(network)
        self._tun = Tun(f"{self._addresses.hub}/{network.prefixlen}", mtu)
        self._members: dict[bytes, Member] = {}
        self._arrived: queue.SimpleQueue[tuple[Stream, frames.Hello]] = queue.SimpleQueue()
        self._door = threading.BoundedSemaphore(_AT_THE_DOOR)
        self._bell, self._ear = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._waiting: set[Member] = set()
        self._over = False

    def run(self) -> None:
        """Carries packets until `stop`."""
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._selector.register(self._ear, selectors.EVENT_READ)
        self._selector.register(self._tun, selectors.EVENT_READ)
        next_look_s = time.monotonic() + 1.0
        try:
            while not self._over:
                for key, events in self._selector.select(1.0):
                    self._serve(key, events)
                if time.monotonic() >= next_look_s:
                    self._look_after()
                    next_look_s = time.monotonic() + 1.0
        finally:
            self._close()

    def stop(self) -> None:
        """Ends `run`, from any thread."""
        self._over = True
        self._bell.send(b"!")

    def _serve(self, key: selectors.SelectorKey, events: int) -> None:
        if isinstance(key.data, Member):
            self._guarded(key.data, self._hear if events & selectors.EVENT_READ else self._flush)
        elif key.fileobj is self._tun:
            for packet in self._tun.packets():
                self._hand_on(packet)
        elif key.fileobj is self._listener:
            self._open_door()
        else:
            self._ear.recv(4096)
            while not self._arrived.empty():
                self._admit(*self._arrived.get())
        for member in list(self._waiting):
            self._guarded(member, self._flush)

    def _hear(self, member: Member) -> None:
        for kind, payload in member.stream.frames():
            if kind == frames.PACKET:
                if payload[0] >> 4 != 4:
                    raise WireError("a packet that is not IPv4")
                if payload[12:16] != member.packed:
                    member.strays += 1
                    continue
                self._hand_on(payload)

    def _hand_on(self, packet: bytes | memoryview) -> None:
        to = bytes(packet[16:20])
        if (member := self._members.get(to)) is not None:
            if not member.stream.is_blocked:  # else it is flushed already as soon as it takes more
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

    def _guarded(self, member: Member, act: Callable[[Member], None]) -> None:
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
        self._say(f"{member.name} ({member.address}) is gone: {reason}")

    def _look_after(self) -> None:
        now_s = time.monotonic()
        for member in list(self._members.values()):
            if now_s - member.stream.heard_s > SILENCE_S:
                self._lose(member, f"nothing was heard for {SILENCE_S:g} s")
                continue
            if member.strays:
                self._say(f"{member.name}: {member.strays} packets from other addresses than its own refused")
                member.strays = 0
            if now_s - member.stream.spoke_s > PING_S and not member.stream.is_blocked:
                member.stream.ping()
                self._guarded(member, self._flush)

    def _open_door(self) -> None:
        try:
            connection, peer = self._listener.accept()
        except OSError:
            return  # it went away in between
        if not self._door.acquire(blocking=False):
            connection.close()
            return
        threading.Thread(target=self._greet, args=(connection, peer), name="door", daemon=True).start()

    def _greet(self, connection: socket.socket, peer: tuple[str | int, ...]) -> None:
        """In a thread of its own, so that a slow or silent stranger holds up nobody."""
        connection.settimeout(HANDSHAKE_S)
        stream = None
        try:
            stream = Stream(self._context.wrap_socket(connection, server_side=True))
            kind, payload = stream.first(HANDSHAKE_S)
            if kind != frames.HELLO:
                raise WireError(f"a frame of kind {kind} before the hello")
            hello = frames.read_words(frames.Hello, payload)
            if reason := self._objection(hello, stream):
                self._say(f"{peer[0]} refused: {reason}")
                stream.refuse(reason, is_final=True)
            else:
                self._arrived.put((stream, hello))
                self._bell.send(b"!")
        except (SplitflError, OSError) as error:
            if stream is not None:
                stream.refuse(str(error), is_final=isinstance(error, WireError))
            connection.close()
            self._say(f"{peer[0]} refused: {error}")
        finally:
            self._door.release()

    def _objection(self, hello: frames.Hello, stream: Stream) -> str:
        if not _NAME.fullmatch(hello.name):
            return "a name is of 1 to 64 letters, digits, dots, dashes and underscores"
        if self._tokens is not None and not self._tokens.admits(hello.name, hello.token):
            return f"wrong token for {hello.name!r}"
        certified = common_name(stream.certificate())
        if certified and certified != hello.name:
            return f"its certificate is {certified!r}'s, and it says that it is {hello.name!r}"
        return ""

    def _admit(self, stream: Stream, hello: frames.Hello) -> None:
        for member in list(self._members.values()):
            if member.name == hello.name and member.session != hello.session:
                stream.refuse(f"another {hello.name!r} is connected", is_final=False)
                return
            if member.name == hello.name:
                self._lose(member, "it connects again")
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
        stream.begin(frames.words(frames.WELCOME, welcome))
        self._members[member.packed] = member
        self._selector.register(stream, selectors.EVENT_READ, member)
        self._waiting.add(member)
        self._say(f"{member.name} is in, at {address}")

    def _close(self) -> None:
        for member in self._members.values():
            member.stream.close()
        for end in (self._bell, self._ear, self._listener):
            end.close()
        self._selector.close()
        self._tun.close()
