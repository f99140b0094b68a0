"""What a client makes of its server's answers, and a server of frames that are none."""

import logging
from collections.abc import Callable, Generator, Mapping

import pytest
from torch import Tensor

from channel.links.fixed import FixedLink
from splitfl.accounting.ledger import Ledger
from splitfl.client.client import JOIN_LAP, ClientNode
from splitfl.client.loop import run_client
from splitfl.config import AnalogConfig, ErasureConfig
from splitfl.core.errors import PeerLost, WireError
from splitfl.core.events import Events
from splitfl.core.messages import LOST, Begin, Done, Join, Joined, Leave, Message, Reply
from splitfl.core.state import State
from splitfl.methods.parts.method import ServerReply, Turn, unexpected
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.server.exchange import Exchange
from splitfl.server.protocols import RoundEnd
from splitfl.server.service_order import ServiceOrder
from splitfl.server.session_router import SessionRouter
from splitfl.server.sync_server import SyncServer
from splitfl.server.virtual_clock import EmulatedLink, VirtualClock
from splitfl.wire import Envelope, Frame, Refusal, decode, encode


class Begins:
    """The shortest method there is: it begins a round, hears what it is told, and has ended it."""

    def __init__(self) -> None:
        self.heard: list[Reply] = []

    def round(self, round_index: int) -> Generator[Message, Reply, None]:
        self.heard.append((yield Begin(steps=0)))

    def take_flops(self) -> float:
        return 0.0

    def state(self) -> State:
        return {}

    def restore(self, state: State) -> None:
        pass


class Answers:
    """A connection to whoever answers a message, given with its envelope, by a frame."""

    def __init__(self, answer: Callable[[Message, Envelope], bytes]) -> None:
        self.asked: list[str] = []
        self._answer = answer

    def request(self, frame: bytes) -> bytes:
        message, envelope = decode(frame)
        self.asked.append(type(message).__name__)
        if isinstance(message, Join):
            return encode(Joined(round=0), envelope)
        return self._answer(message, envelope)


def run(answer: Callable[[Message, Envelope], bytes]) -> tuple[Begins, Answers]:
    method, connection = Begins(), Answers(answer)
    run_client(ClientNode(3, method), connection, 2, Leave, lambda round_index, message: None)
    return method, connection


def test_a_client_takes_part_in_every_round_and_takes_leave() -> None:
    method, connection = run(lambda message, envelope: encode(LOST, envelope))
    assert connection.asked == ["Join", "Begin", "Begin", "Leave"]
    assert method.heard == [LOST, LOST]


def test_a_refusal_ends_a_client_with_its_reason() -> None:
    with pytest.raises(PeerLost, match="the server ended the run: client 1 died"):
        run(lambda message, envelope: encode(Refusal(reason="client 1 died"), envelope))


@pytest.mark.parametrize(("client", "lap"), [(2, 0), (3, 1)])
def test_the_answer_of_another_request_is_not_accepted(client: int, lap: int) -> None:
    with pytest.raises(
        WireError, match=f"client 3 expected the answer to message 0 and got client {client}'s"
    ):
        run(lambda message, envelope: encode(LOST, Envelope(client=client, round=0, lap=lap)))


def test_a_server_that_closes_as_the_last_client_leaves_is_no_failure() -> None:
    def answer(message: Message, envelope: Envelope) -> bytes:
        if isinstance(message, Leave):
            raise PeerLost("the server went away")
        return encode(LOST, envelope)

    run(answer)


class AnswersNothing:
    """A server's side of a method that has no messages."""

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        raise unexpected("none", message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        pass

    def end_round(self, round_index: int) -> None:
        pass

    def trained(self) -> Mapping[str, Tensor]:
        return {}

    def state(self) -> Mapping[str, Tensor]:
        return {}


class NoWatcher:
    """Whom nothing concerns."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        pass

    def all_began(self, round_index: int) -> None:
        pass

    def ended(self, end: RoundEnd) -> None:
        pass


@pytest.fixture
def server() -> SyncServer:
    events = Events(None)
    clock = VirtualClock(1e9, 1e9, 1, Ledger(), events)
    erasure = ErasurePolicies(0, ErasureConfig(), AnalogConfig(), lambda message: None, 1500, {})
    exchange = Exchange(AnswersNothing(), clock, erasure, events, NoWatcher())
    return SyncServer(exchange, EmulatedLink(FixedLink(seed=0)), ServiceOrder(0, 2, 1), clients=2, rounds=1)


@pytest.fixture
def router(server: SyncServer) -> SessionRouter:
    """Client 0 has joined."""
    router = SessionRouter()
    router.connect(server)
    assert asked(router, encode(Join(), Envelope(client=0, round=0, lap=JOIN_LAP))) == Joined(round=0)
    return router


def asked(router: SessionRouter, frame: bytes, client: int = 0) -> Reply | Refusal:
    answers: list[bytes] = []
    router.handle(client, frame, answers.append)
    (answer,) = answers
    return decode(answer)[0]


HERE = Envelope(client=0, round=0, lap=0)
LATER = Envelope(client=0, round=2, lap=3)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"noise", "a frame must have 8 to"),
        (encode(LOST, HERE), "the server has no answer to a Lost"),
        (encode(Refusal(reason="no"), HERE), "the server has no answer to a Refusal"),
        (encode(Begin(steps=0), LATER), "client 0 sent message 3 of round 2 out of order"),
        (encode(Done(), HERE), "'none' has no reply"),
    ],
    ids=["noise", "lost", "refusal", "order", "unknown"],
)
def test_a_frame_that_is_none_is_answered_and_ends_the_run(
    router: SessionRouter, frame: bytes, reason: str
) -> None:
    refusal = asked(router, frame)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert reason in str(router.failure)


def test_the_first_failure_is_the_one_that_every_client_is_told(router: SessionRouter) -> None:
    assert isinstance(asked(router, encode(Done(), HERE)), Refusal)
    refusal = asked(router, b"noise")
    assert isinstance(refusal, Refusal)
    assert "'none' has no reply" in refusal.reason


def test_a_client_that_leaves_has_been_answered_before_the_server_may_close(server: SyncServer) -> None:
    left_at_answer: list[dict[int, Leave]] = []
    leave, left = encode(Leave(), Envelope(client=1, round=1, lap=0)), server.membership.left
    server.handle(Frame(leave), lambda frame: left_at_answer.append(dict(left)))
    assert left_at_answer == [{}]
    assert list(left) == [1]


def test_a_client_that_there_is_not_cannot_join(router: SessionRouter) -> None:
    refusal = asked(router, encode(Join(), Envelope(client=5, round=0, lap=JOIN_LAP)), 5)
    assert refusal == Refusal(reason="client must be 0 to 1, got 5")
    assert router.failure is None


def test_a_frame_in_another_clients_name_is_refused_to_its_sender_alone(
    router: SessionRouter, caplog: pytest.LogCaptureFixture
) -> None:
    refusal = asked(router, encode(Begin(steps=0), HERE), 1)
    assert refusal == Refusal(reason="client 1 sent a message in the name of client 0")
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert router.failure is None
