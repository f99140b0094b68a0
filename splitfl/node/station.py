"""The server's side of every road: a frame comes in, a frame goes out.

Knows no transport. `handle` may be called from one thread or from one for each client;
the gate brings the work into the same order either way.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from splitfl.errors import WireError
from splitfl.messages import LOST, Activation, Control, Message
from splitfl.methods.seam import Outcome, ServerMethod, Ticket
from splitfl.metrics import Events
from splitfl.node.air import Air, Arrival
from splitfl.node.gate import Gate
from splitfl.wire import Envelope, decode, encode


@dataclass(frozen=True, kw_only=True)
class RoundEnd:
    """A round is over: when on the virtual clock, and the mean training loss over its samples."""

    round: int
    finish_s: float
    train_loss: float


class Watcher(Protocol):
    """Whoever follows a run."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """The server has seen so many more training steps of this client."""

    def ended(self, end: RoundEnd) -> None:
        """A round is over."""


class Station:
    """Brings a method's server, the air and the ledger together.

    `watcher` hears of every step and, while nothing else moves, of every round's end.
    """

    def __init__(
        self,
        server: ServerMethod,
        air: Air,
        gate: Gate,
        events: Events,
        watcher: Watcher,
    ) -> None:
        self._server = server
        self._air = air
        self._gate = gate
        self._events = events
        self._watcher = watcher
        self._loss_sum = 0.0
        self._samples = 0
        self.left: dict[int, Control] = {}

    def handle(self, frame: bytes, answer: Callable[[bytes], None]) -> None:
        """Answers one frame by calling `answer` once, then makes the work part of the state.

        Raises WireError for what is not a message, and what `fail` was told where the turn never comes.
        """
        message, envelope = decode(frame)
        if not isinstance(message, Message):
            raise WireError(f"the server has no answer to a {type(message).__name__}")
        if isinstance(message, Control) and message.ask == "leave":
            answer(encode(Control(ask="done", round=envelope.round), envelope))
            self.left[envelope.client] = message  # the server may close from here on
            return
        self._take_turn(message, envelope, len(frame), answer)

    def fail(self, error: Exception) -> None:
        """Ends every wait with this error."""
        self._gate.fail(error)

    def _take_turn(
        self, message: Message, envelope: Envelope, frame_bytes: int, answer: Callable[[bytes], None]
    ) -> None:
        gate, client, round_index, lap = self._gate, envelope.client, envelope.round, envelope.lap
        position = gate.admit(client, round_index, lap, alone=not isinstance(message, Activation))
        arrival = self._air.up(envelope, type(message).__name__, frame_bytes)
        if isinstance(message, Control) and message.ask == "begin":
            gate.begin(client, message.steps + 1)
        gate.admitted(position)
        ticket = Ticket(client=client, round=round_index, lap=lap, position=position)
        outcome = self._server.compute(ticket, message) if arrival.is_complete else None
        gate.await_commit(position)
        answer(self._answer(envelope, arrival, outcome))
        if outcome is not None:
            self._note(ticket, outcome)
        self._server.commit(ticket, outcome)
        ends_round = gate.is_last(position)
        if ends_round:
            self._server.end_round(round_index)
            self._watcher.ended(self._end_round(round_index))
        gate.committed(position, ends_round=ends_round)

    def _answer(self, envelope: Envelope, arrival: Arrival, outcome: Outcome | None) -> bytes:
        """The frame that reaches the client: LOST where its message, or the answer, is lost on the air."""
        if outcome is None:
            self._air.lost(envelope, arrival)
            return encode(LOST, envelope)
        done_s = self._air.serve(envelope, arrival, outcome.flops)
        frame = encode(outcome.reply, envelope)
        came = self._air.down(envelope, type(outcome.reply).__name__, len(frame), done_s)
        return frame if came else encode(LOST, envelope)

    def _end_round(self, round_index: int) -> RoundEnd:
        train_loss = self._loss_sum / self._samples if self._samples else float("nan")
        self._loss_sum, self._samples = 0.0, 0
        return RoundEnd(round=round_index, finish_s=self._air.end_round(), train_loss=train_loss)

    def _note(self, ticket: Ticket, outcome: Outcome) -> None:
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
