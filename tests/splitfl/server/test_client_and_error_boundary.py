"""What a client makes of its server's answers, and a server of frames that are none."""

from collections.abc import Callable, Generator, Mapping

import pytest
from torch import Tensor

from channel.links.fixed import FixedLink
from splitfl.accounting.ledger import Ledger
from splitfl.client.client import ClientNode, run_client
from splitfl.config import AnalogConfig, ErasureConfig
from splitfl.core.errors import PeerLost, WireError
from splitfl.core.events import Events
from splitfl.core.messages import LOST, Control, Message, Reply
from splitfl.core.state import State
from splitfl.methods.parts.method import ServerReply, Turn, unexpected
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.server.error_boundary import ErrorBoundary
from splitfl.server.exchange import Exchange, RoundEnd
from splitfl.server.server_loop import SyncServer
from splitfl.server.service_order import ServiceOrder
from splitfl.server.virtual_clock import VirtualClock
from splitfl.wire import Envelope, Refusal, decode, encode


class Begins:
    """The shortest method there is: it begins a round, hears what it is told, and has ended it."""

    def __init__(self) -> None:
        self.heard: list[Reply] = []

    def round(self, round_index: int) -> Generator[Message, Reply, None]:
        self.heard.append((yield Control(ask="begin", round=round_index)))

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
        assert isinstance(message, Control)
        self.asked.append(message.ask)
        if message.ask == "join":
            return encode(Control(ask="join", round=0), envelope)
        return self._answer(message, envelope)


def run(answer: Callable[[Message, Envelope], bytes]) -> tuple[Begins, Answers]:
    method, connection = Begins(), Answers(answer)
    run_client(ClientNode(3, method), connection, 2, dict, lambda round_index, message: None)
    return method, connection


def test_a_client_takes_part_in_every_round_and_takes_leave() -> None:
    method, connection = run(lambda message, envelope: encode(LOST, envelope))
    assert connection.asked == ["join", "begin", "begin", "leave"]
    assert method.heard == [LOST, LOST]


def test_a_refusal_ends_a_client_with_its_reason() -> None:
    with pytest.raises(PeerLost, match="the server ended the run: client 1 died"):
        run(lambda message, envelope: encode(Refusal(reason="client 1 died"), envelope))


@pytest.mark.parametrize(("client", "lap"), [(2, 0), (3, 1)])
def test_somebody_elses_answer_is_not_taken(client: int, lap: int) -> None:
    with pytest.raises(
        WireError, match=f"client 3 expected the answer to message 0 and got client {client}'s"
    ):
        run(lambda message, envelope: encode(LOST, Envelope(client=client, round=0, lap=lap)))


def test_a_server_that_closes_as_the_last_client_leaves_is_no_failure() -> None:
    def answer(message: Message, envelope: Envelope) -> bytes:
        if isinstance(message, Control) and message.ask == "leave":
            raise PeerLost("the server went away")
        return encode(LOST, envelope)

    run(answer)


class AnswersNothing:
    """A server's side of a method that has no messages."""

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        raise unexpected("none", message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
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

    def begun(self, round_index: int) -> None:
        pass

    def ended(self, end: RoundEnd) -> None:
        pass


@pytest.fixture
def guard() -> ErrorBoundary:
    events = Events(None)
    air = VirtualClock(1e9, 1e9, 1, Ledger(), events)
    losses = ErasurePolicies(0, ErasureConfig(), AnalogConfig(), lambda message: None, 1500, {})
    desk = Exchange(AnswersNothing(), air, losses, events, NoWatcher())
    return ErrorBoundary(SyncServer(desk, FixedLink(seed=0), ServiceOrder(0, 2, 1), 0.2, clients=2, rounds=1))


NOBODY = Envelope(client=5, round=0, lap=0)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        (b"noise", "a frame must have 8 to"),
        (encode(LOST, NOBODY), "the server has no answer to a Lost"),
        (encode(Refusal(reason="no"), NOBODY), "the server has no answer to a Refusal"),
        (encode(Control(ask="begin", round=0), NOBODY), "client 5 has no message 0 in round 0"),
        (encode(Control(ask="why", round=0), Envelope(client=0, round=0, lap=0)), "'none' has no answer"),
    ],
    ids=["noise", "lost", "refusal", "stranger", "unknown"],
)
def test_a_frame_that_is_none_is_answered_and_ends_the_run(
    guard: ErrorBoundary, frame: bytes, reason: str
) -> None:
    answers: list[bytes] = []
    guard.handle(frame, answers.append)
    (answer,) = answers
    refusal, _ = decode(answer)
    assert isinstance(refusal, Refusal)
    assert reason in refusal.reason
    assert reason in str(guard.failure)


def test_the_first_failure_is_the_one_that_everybody_hears(guard: ErrorBoundary) -> None:
    guard.fail(PeerLost("client 1 was silent"))
    answers: list[bytes] = []
    guard.handle(b"noise", answers.append)
    refusal, _ = decode(answers[0])
    assert isinstance(refusal, Refusal)
    assert refusal.reason == "client 1 was silent"


def test_who_leaves_has_been_answered_before_the_server_may_close(guard: ErrorBoundary) -> None:
    station = guard._station
    left_at_answer: list[dict[int, Control]] = []
    leave = encode(Control(ask="leave", round=1), Envelope(client=1, round=1, lap=0))
    station.handle(leave, lambda frame: left_at_answer.append(dict(station.left)))
    assert left_at_answer == [{}]
    assert list(station.left) == [1]
