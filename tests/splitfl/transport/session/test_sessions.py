"""Sessions over roads that break anywhere, say things twice and lose them: once each, whole, in order."""

import queue
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from splitfl.core.errors import ConfigError, PeerLost, RunEnded, WireError
from splitfl.transport.base.versions import versions
from splitfl.transport.session.chunk import HEADER_BYTES, MAX_CHUNK_BYTES, Kind, piece, say, unpack
from splitfl.transport.session.client import SessionClient
from splitfl.transport.session.inbox import Gap, Inbox
from splitfl.transport.session.outbox import Outbox
from splitfl.transport.session.session_registry import SessionRegistry

CHUNK = 7


class BadRoad:
    """A connector in this process to a registry; each connection breaks after so many parcels up, or down."""

    chunk_bytes = CHUNK
    silence = "no answer"
    window_bytes: int | None = None

    def __init__(
        self, registry: SessionRegistry, breaks: Iterator[tuple[int, int]], is_repeating: bool
    ) -> None:
        self._registry, self._breaks, self._is_repeating = registry, breaks, is_repeating
        self._broken = threading.Event()
        self.connections = 0

    def carry(self, take: Callable[[], bytes | None], receive: Callable[[bytes], None]) -> None:
        """See Road."""
        self.connections += 1
        up, down = next(self._breaks, (10**9, 10**9))
        self._broken = broken = threading.Event()
        hello = take()
        if hello is None:
            return
        session, line = self._registry.admit(unpack(hello), None, "the test")
        down_queue: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

        def speak() -> None:
            for _ in range(up):
                chunk = take()
                if chunk is None or broken.is_set():
                    break
                for _ in range(1 + self._is_repeating):
                    session.receive(line, chunk)
            down_queue.put(None)

        def answer() -> None:
            for _ in range(down):
                chunk = session.outbox.take(line)
                if chunk is None:
                    break
                for _ in range(1 + self._is_repeating):
                    down_queue.put(chunk)
            down_queue.put(None)

        for work in (speak, answer):
            threading.Thread(target=work, daemon=True).start()
        while (raw := down_queue.get()) is not None and not broken.is_set():
            receive(raw)
        broken.set()
        self._registry.lost(session, line, "the test broke it")
        raise PeerLost("the test broke it")

    def cut(self) -> None:
        """See Road."""
        self._broken.set()


def new_desk(**settings: int) -> SessionRegistry:
    registry = SessionRegistry(1, 20.0, 5.0, CHUNK, **settings)
    registry.offer({})
    return registry


@pytest.mark.slow
def test_every_message_arrives_once_wherever_connections_break(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("splitfl.transport.session.client._FIRST_PAUSE_S", 0.001)

    @settings(max_examples=15)
    @given(
        st.lists(st.tuples(st.integers(0, 9), st.integers(1, 9)), max_size=6),
        st.lists(st.integers(1, 5 * CHUNK), min_size=1, max_size=5),
        st.booleans(),
    )
    def check(breaks: list[tuple[int, int]], sizes: list[int], is_repeating: bool) -> None:
        registry = new_desk()
        worked: list[bytes] = []

        def work(client: int, frame: bytes, answer: Callable[[bytes], None]) -> None:
            worked.append(frame)
            answer(frame[::-1] * 2)

        registry.start(work)
        connector = BadRoad(registry, iter(breaks), is_repeating)
        client = SessionClient(connector, "here", 0, None, 20.0)
        client.enter()
        frames = [bytes((index + i) % 256 for i in range(size)) for index, size in enumerate(sizes)]
        assert [client.request(frame) for frame in frames] == [frame[::-1] * 2 for frame in frames]
        assert worked == frames
        client.leave()
        registry.close()

    check()


@given(st.integers(1, 10 * CHUNK), st.data())
def test_messages_survive_losses_and_repetitions(size: int, data: st.DataObject) -> None:
    """Each chunk is lost or not; where one is missing, or all is said and something is, it is asked for."""
    message = bytes(i % 256 for i in range(size))
    outbox, inbox = Outbox(CHUNK), Inbox()
    outbox.put(Kind.REQUEST, 1, message)
    line = outbox.open()
    outbox.go_on(0, 0)
    whole = None
    losses = data.draw(st.lists(st.booleans(), max_size=30))
    while whole is None:
        if not outbox._may_send():
            outbox.go_on(inbox.number, inbox.received_bytes)
        raw = outbox.take(line)
        assert raw is not None
        if losses and losses.pop():
            continue
        taken = inbox.take(unpack(raw))
        if isinstance(taken, Gap):
            outbox.go_on(inbox.number, inbox.received_bytes)
        else:
            whole = taken
    assert whole == message


def test_a_window_limits_unconfirmed_bytes_and_resends_lost_ones() -> None:
    outbox = Outbox(CHUNK, 3 * CHUNK)
    outbox.put(Kind.REQUEST, 1, bytes(10 * CHUNK))
    line = outbox.open()
    outbox.go_on(0, 0)
    assert [len(outbox.take(line) or b"") for _ in range(3)] == [HEADER_BYTES + CHUNK] * 3
    assert not outbox._may_send()
    outbox.confirm(1, 2 * CHUNK, is_beat=False)
    assert unpack(outbox.take(line) or b"").offset == 3 * CHUNK
    for _ in range(2):
        outbox.confirm(1, 2 * CHUNK, is_beat=True)
    assert unpack(outbox.take(line) or b"").offset == 2 * CHUNK
    outbox.confirm(1, 10 * CHUNK, is_beat=False)
    assert unpack(outbox.take(line) or b"").offset == 3 * CHUNK  # what was not sent cannot be confirmed


@pytest.mark.parametrize("max_bytes", [20_000, 2_000])
def test_pieces_that_a_broker_drops_become_smaller_until_they_arrive(max_bytes: int) -> None:
    message = bytes(range(256)) * 2_000
    outbox, inbox = Outbox(120 << 10, 4 * (120 << 10)), Inbox()
    outbox.put(Kind.REQUEST, 1, message)
    line = outbox.open()
    outbox.go_on(0, 0)
    taken, beats = None, 0
    while taken is None:
        while taken is None and outbox._may_send():
            raw = outbox.take(line) or b""
            arrived = inbox.take(unpack(raw)) if len(raw) <= max_bytes else None
            if isinstance(arrived, Gap):  # what is left at the end is small enough and comes alone
                outbox.go_on(inbox.number, inbox.received_bytes)
                break
            taken = arrived
        outbox.confirm(1, inbox.received_bytes, is_beat=True)
        beats += 1
        assert beats < 100
    assert taken == message


def test_a_broker_that_drops_the_smallest_piece_too_ends_the_run_with_the_reason() -> None:
    outbox = Outbox(4096, 4 * 4096)
    outbox.put(Kind.REQUEST, 1, bytes(10_000))
    line = outbox.open()
    outbox.go_on(0, 0)
    for _ in range(11):
        while outbox._may_send():
            outbox.take(line)
        outbox.confirm(1, 0, is_beat=True)
    with pytest.raises(
        ConfigError, match="no part of a message of 10000 bytes, in chunks of 1024: the network"
    ):
        outbox.confirm(1, 0, is_beat=True)


def test_an_experiment_larger_than_the_transport_message_is_refused() -> None:
    registry = SessionRegistry(1, 5.0, 5.0, CHUNK, max_bytes=2000)
    with pytest.raises(ConfigError, match=r"needs a message of 3\d+ bytes; .* at most 2000"):
        registry.offer({"long": "x" * 2500})
    registry.offer({"short": "x"})
    registry.close()


def test_a_peer_that_takes_nothing_is_given_up() -> None:
    outbox = Outbox(CHUNK)
    for _ in range(64):
        outbox.say(say(Kind.BEAT))
    with pytest.raises(PeerLost, match="the peer has left 64 words untaken"):
        outbox.say(say(Kind.BEAT))


HELLO = {
    **versions(),
    "client": 0,
    "session": "a" * 32,
    "is_new": True,
    "is_ready": False,
    "at": [0, 0],
    "token": None,
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"client": "0"}, "a hello must have client of another kind, got '0'"),
        ({"at": [0]}, "a hello must say where it stands"),
        ({"at": [-1, 0]}, "a hello must say where it stands"),
        ({"session": "short"}, "a hello must name its session by 16 to 64 letters"),
        ({"token": 3}, "a hello must have token of another kind"),
        ({"protocol": "0"}, "the server runs protocol 1 but this client 0; they must be the same"),
        ({"torch": "1.0"}, "the server runs torch .* but this client 1.0"),
        ({"client": 7}, r"the client must lie in 0..0, got 7"),
        ({"is_new": False}, "client 0 cannot continue its session: this server does not have it"),
    ],
)
def test_a_hello_that_is_none_is_refused(changes: dict[str, object], reason: str) -> None:
    with pytest.raises((ConfigError, WireError), match=reason):
        new_desk().admit(unpack(say(Kind.HELLO, HELLO | changes)), None, "the test")


def test_a_number_is_taken_over_once_its_process_has_been_silent_for_half_the_time() -> None:
    now_s = [0.0]
    registry = SessionRegistry(1, 20.0, 5.0, CHUNK, clock_s=lambda: now_s[0])
    registry.offer({})
    old, old_line = registry.admit(unpack(say(Kind.HELLO, HELLO)), None, "one")
    other = unpack(say(Kind.HELLO, HELLO | {"session": "b" * 32}))
    now_s[0] = 9.9
    with pytest.raises(ConfigError, match="another client 0 has joined already"):
        registry.admit(other, None, "two")
    now_s[0] = 10.1
    new, _ = registry.admit(other, None, "two")
    assert (old.count, new.count) == (1, 2)
    assert old.outbox.take(old_line) is None
    back = unpack(say(Kind.HELLO, HELLO | {"is_new": False}))
    with pytest.raises(RunEnded, match="another process has come as client 0 since"):
        registry.admit(back, None, "one")
    assert [(change.is_here, change.session) for change in registry.changes()] == [(True, 1), (True, 2)]


def test_late_messages_of_a_replaced_process_are_dropped() -> None:
    now_s, received = [0.0], queue.SimpleQueue[bytes]()
    registry = SessionRegistry(1, 20.0, 5.0, CHUNK, clock_s=lambda: now_s[0])
    registry.offer({})
    registry.start(lambda client, frame, answer: received.put(frame))
    old, old_line = registry.admit(unpack(say(Kind.HELLO, HELLO)), None, "one")
    now_s[0] = 10.1
    new, new_line = registry.admit(unpack(say(Kind.HELLO, HELLO | {"session": "b" * 32})), None, "two")
    old.receive(old_line, piece(Kind.REQUEST, 1, memoryview(b"late"), 0, CHUNK))
    new.receive(new_line, piece(Kind.REQUEST, 1, memoryview(b"now"), 0, CHUNK))
    assert received.get(timeout=10) == b"now"
    registry.close()
    assert received.empty()


def test_a_silent_client_is_reported_once_and_rejoins() -> None:
    now_s = [0.0]
    registry = SessionRegistry(1, 20.0, 5.0, CHUNK, clock_s=lambda: now_s[0])
    registry.offer({})
    registry.admit(unpack(say(Kind.HELLO, HELLO)), None, "one")
    registry.start(lambda client, frame, answer: None)
    now_s[0] = 20.1
    assert registry.silent() == [0]
    assert [change.is_here for change in registry.changes()] == [True, False]
    assert registry.changes() == []
    registry.admit(unpack(say(Kind.HELLO, HELLO | {"is_new": False})), None, "one")
    assert registry.silent() == []
    assert [(change.is_here, change.session) for change in registry.changes()] == [(True, 1)]


def test_a_request_before_the_start_is_refused() -> None:
    registry = new_desk()
    session, line = registry.admit(unpack(say(Kind.HELLO, HELLO)), None, "one")
    with pytest.raises(WireError, match="client 0 sent a request before the run started"):
        session.receive(line, piece(Kind.REQUEST, 1, memoryview(b"x"), 0, 1))


PARCELS = st.binary(max_size=60) | st.builds(
    lambda kind, number, offset, total, data: (
        kind.to_bytes(1, "little")
        + b"".join(value.to_bytes(8, "little") for value in (number, offset, total))
        + data
    ),
    st.integers(0, 12),
    st.integers(0, 3) | st.integers(0, 2**64 - 1),
    st.integers(0, 20) | st.integers(0, 2**64 - 1),
    st.integers(0, 20) | st.integers(0, 2**64 - 1),
    st.binary(max_size=20),
)


@settings(max_examples=80)
@given(st.lists(PARCELS, max_size=8))
def test_a_session_takes_any_bytes_or_refuses_them(noise: list[bytes]) -> None:
    registry = new_desk()
    session, line = registry.admit(unpack(say(Kind.HELLO, HELLO)), None, "one")
    for raw in noise:
        with suppress(WireError, PeerLost):
            session.receive(line, raw)


def test_a_claimed_length_is_not_believed_before_it_came() -> None:
    inbox = Inbox()
    header = piece(Kind.REQUEST, 1, memoryview(b"x"), 0, 1)
    lie = header[:17] + (2 << 30).to_bytes(8, "little") + header[25:]
    tracemalloc.start()
    try:
        assert inbox.take(unpack(lie)) is None
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    with pytest.raises(WireError, match="a message must have 1 to 2147483648 bytes"):
        unpack(header[:17] + ((2 << 30) + 1).to_bytes(8, "little") + header[25:])
    with pytest.raises(WireError, match="a chunk must have 25 to 4194304 bytes"):
        unpack(bytes(MAX_CHUNK_BYTES + 1))


def test_a_message_does_not_change_its_mind() -> None:
    inbox = Inbox()
    assert inbox.take(unpack(piece(Kind.REQUEST, 1, memoryview(b"abc"), 0, 1))) is None
    with pytest.raises(WireError, match="a message of 3 bytes now claims 4"):
        inbox.take(unpack(piece(Kind.REQUEST, 1, memoryview(b"abcd"), 1, 1)))
    with pytest.raises(WireError, match="message 2 came while message 1 was due"):
        inbox.take(unpack(piece(Kind.REQUEST, 2, memoryview(b"abc"), 0, 1)))


def test_a_client_that_joins_early_waits_for_the_experiment() -> None:
    registry = SessionRegistry(1, 20.0, 5.0, CHUNK)
    offering = threading.Timer(0.2, lambda: registry.offer({"train": {"seed": 7}}))
    offering.start()
    session, line = registry.admit(unpack(say(Kind.HELLO, HELLO)), None, "here")
    offering.join()
    welcome = session.outbox.take(line)
    assert welcome is not None
    assert unpack(welcome).table()["experiment"] == {"train": {"seed": 7}}
