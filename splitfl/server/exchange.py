"""What a server's side does with one message, however it came and whenever its turn is."""

from dataclasses import dataclass, replace
from typing import Protocol

from splitfl.config import EXACT, CodecConfig
from splitfl.core.errors import WireError
from splitfl.core.events import Events
from splitfl.core.messages import LOST, Control, Lost, Message
from splitfl.core.state import State, part, under
from splitfl.methods.parts.method import ServerMethod, ServerReply, Turn
from splitfl.methods.parts.plan import Plan
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.server.virtual_clock import Arrival, Departure, Load, VirtualClock
from splitfl.wire import Envelope, decode, encode
from splitfl.wire.frame import codec_of


@dataclass(frozen=True, kw_only=True)
class RoundEnd:
    """A round is over: when on the virtual clock, and the mean training loss over its samples.

    None where nobody has told the server of a loss.
    """

    round: int
    finish_s: float
    train_loss: float | None


class Watcher(Protocol):
    """Whoever follows a run."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """The server has seen so many more training steps of this client."""

    def ended(self, end: RoundEnd) -> None:
        """A round is over."""

    def begun(self, round_index: int) -> None:
        """Every client has begun this round, and so has kept what it was after the one before."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Posted:
    """A message of a client as its frame, which rounded rows by `codec`, says it."""

    message: Message
    envelope: Envelope
    frame_bytes: int
    codec: str


@dataclass(frozen=True, kw_only=True, eq=False)
class Answering:
    """An answer on its way, and its frame as it left; `reply` is what this frame says."""

    envelope: Envelope
    reply: Message
    frame: bytes
    departure: Departure


class Controller(Protocol):
    """Tells every client before each round what to do; see splitfl.controller."""

    def plan(self, client: int) -> Plan:
        """What this client is to do."""

    def begins(self, client: int, asked: Control) -> None:
        """A client begins a round, and may say how fast it has been."""

    def ended(self, round_index: int) -> None:
        """A round is over, and what it cost is in the ledger."""

    def state(self) -> State:
        """See Stateful."""

    def restore(self, state: State) -> None:
        """See Stateful."""


class Exchange:
    """Brings a method's server, the clocks, the meaning of losses and the ledger together.

    `watcher` hears of every step and, while nothing else moves, of every round's end. `codec` is what
    answers are rounded by.
    """

    def __init__(
        self,
        server: ServerMethod,
        air: VirtualClock,
        losses: ErasurePolicies,
        events: Events,
        watcher: Watcher,
        codec: CodecConfig = EXACT,
        controller: Controller | None = None,
    ) -> None:
        """The `controller` says what each client is to do, and how its answers are rounded, where that is
        decided from round to round.
        """
        self._server = server
        self._controller = controller
        self._air = air
        self._losses = losses
        self._events = events
        self._watcher = watcher
        self._codec = codec
        self._loss_sum = 0.0
        self._samples = 0
        self.left: dict[int, Control] = {}

    @property
    def round_began_s(self) -> float:
        """When, on the virtual clock, the round began that is not over."""
        return self._air.round_began_s

    def state(self) -> State:
        """The clocks, and what losses are made good from; see Stateful. To be taken between rounds."""
        planned = under("planner", self._controller.state()) if self._controller else {}
        return under("air", self._air.state()) | under("losses", self._losses.state()) | planned

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._air.restore(part(state, "air"))
        self._losses.restore(part(state, "losses"))
        if self._controller:
            self._controller.restore(part(state, "planner"))

    def open(self, frame: bytes) -> Posted:
        """A client's frame; WireError for what is no message."""
        message, envelope = decode(frame)
        if not isinstance(message, Message):
            raise WireError(f"the server has no answer to a {type(message).__name__}")
        return Posted(message=message, envelope=envelope, frame_bytes=len(frame), codec=codec_of(frame))

    def goodbye(self, posted: Posted) -> bytes | None:
        """The answer to a client that takes leave, which costs no time; None for any other message."""
        message, envelope = posted.message, posted.envelope
        if not isinstance(message, Control) or message.ask != "leave":
            return None
        return encode(Control(ask="done", round=envelope.round), envelope)

    def load(self, posted: Posted) -> Load:
        """How a client's message goes over the link."""
        return self._losses.load(posted.message, posted.frame_bytes, posted.codec, is_up=True)

    def leaves(self, posted: Posted, now_s: float = 0.0) -> Departure:
        """The message as it sets off, not before `now_s`."""
        return self._air.leaves(posted.envelope, type(posted.message).__name__, self.load(posted), now_s)

    def compute(self, ticket: Turn, posted: Posted, arrival: Arrival) -> ServerReply | None:
        """What the method makes of what was heard; None where nothing was."""
        heard = self._losses.heard(posted.envelope, posted.message, arrival)
        if self._controller and isinstance(heard, Control) and heard.ask == "begin":
            self._controller.begins(ticket.client, heard)
        return self._server.compute(self._planned(ticket), heard) if heard is not None else None

    def late(self, posted: Posted, arrival: Arrival, due_s: float) -> bytes:
        """The frame of a client whose message came after the round had ended at `due_s`."""
        self._air.late(posted.envelope, arrival, due_s)
        return encode(LOST, posted.envelope)

    def unsaid(self, posted: Posted) -> bytes:
        """The frame of a client that goes on with a round which is over for it: nothing is sent or worked."""
        return encode(LOST, posted.envelope)

    def lost(self, posted: Posted, arrival: Arrival, now_s: float = 0.0) -> bytes:
        """The frame of a client of whose message nothing came."""
        self._air.lost(posted.envelope, arrival, now_s)
        return encode(LOST, posted.envelope)

    def answer(self, posted: Posted, arrival: Arrival, outcome: ServerReply, now_s: float = 0.0) -> Answering:
        """The answer as it sets off, once the server has worked for it and not before `now_s`."""
        envelope = posted.envelope
        done_s = self._air.serve(envelope, arrival, outcome.flops)
        reply = self._losses.answer(envelope, outcome.reply)
        rounds = self._controller.plan(envelope.client).rounds() if self._controller else self._codec
        frame = encode(reply, envelope, rounds)
        codec = codec_of(frame)
        if codec != "none":  # the client is to hear no more than the frame says
            rounded, _ = decode(frame)
            assert isinstance(rounded, Message)
            reply = rounded
        load = self._losses.load(reply, len(frame), codec, is_up=False)
        departure = self._air.returns(envelope, type(reply).__name__, load, done_s, now_s)
        return Answering(envelope=envelope, reply=reply, frame=frame, departure=departure)

    def landed(self, answering: Answering, arrival: Arrival) -> bytes:
        """The answer's frame as the client hears it; rows that were rounded once are not rounded again."""
        heard = self._losses.answered(answering.envelope, answering.reply, arrival)
        self._air.landed(answering.envelope, arrival, is_lost=isinstance(heard, Lost))
        return answering.frame if heard is answering.reply else encode(heard, answering.envelope)

    def noted(self, event: str, **values: int) -> None:
        """Something has happened to who takes part."""
        self._events.write(event, **values)

    def begun(self, round_index: int) -> None:
        """Every client has begun this round."""
        self._watcher.begun(round_index)

    def commit(self, ticket: Turn, outcome: ServerReply | None, *, ends_round: bool) -> None:
        """Makes the work part of the state, and ends the round where it was the last of it."""
        if outcome is not None:
            self._note(ticket, outcome)
        self._server.commit(self._planned(ticket), outcome)
        if ends_round:
            self.merge(ticket.round)
            self.end(ticket.round)

    def merge(self, round_index: int) -> None:
        """What the clients have sent in becomes the next version."""
        self._server.end_round(round_index)
        if self._controller:
            self._controller.ended(round_index)

    def end(self, round_index: int) -> None:
        """A round is over, and is measured."""
        self._watcher.ended(self._end_round(round_index))

    def aged(self, ticket: Turn, staleness: int) -> None:
        """Work that came in had begun from a version that was so old."""
        self._air.aged(ticket, staleness)

    def _planned(self, ticket: Turn) -> Turn:
        return replace(ticket, plan=self._controller.plan(ticket.client)) if self._controller else ticket

    def _end_round(self, round_index: int) -> RoundEnd:
        train_loss = self._loss_sum / self._samples if self._samples else None
        self._loss_sum, self._samples = 0.0, 0
        return RoundEnd(round=round_index, finish_s=self._air.end_round(), train_loss=train_loss)

    def _note(self, ticket: Turn, outcome: ServerReply) -> None:
        if outcome.losses:
            self._watcher.stepped(ticket.round, ticket.client, len(outcome.losses))
        first = 0 if len(outcome.losses) > 1 else ticket.lap - 1
        for step, loss in enumerate(outcome.losses, first if outcome.step is None else outcome.step):
            samples = outcome.samples // len(outcome.losses)
            self._loss_sum += loss * samples
            self._samples += samples
            self._events.write(
                "step",
                round=ticket.round,
                step=step,
                client=ticket.client,
                loss=loss,
                samples=samples,
            )
