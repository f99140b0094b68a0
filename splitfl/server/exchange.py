"""One exchange: a client's message crosses the channel, the method answers it, the reply crosses back.

Decode, channel, erasure, computation, encoding, channel, accounting, in this order, on every transport and in
every service order.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from channel.core.link import Delivery
from splitfl.config import EXACT, CodecConfig
from splitfl.core.errors import Diverged, WireError
from splitfl.core.events import Events
from splitfl.core.messages import LOST, Activation, Begin, Done, Lost, Message, Reply, UnknownReference
from splitfl.core.state import State, part, under
from splitfl.methods.parts.method import Batched, BatchServer, ServerMethod, ServerReply, Turn
from splitfl.server.divergence import ADVICE
from splitfl.server.erasure_policies import ErasurePolicies
from splitfl.server.protocols import RoundEnd, RoundPlanner, Watcher
from splitfl.server.virtual_clock import Crossing, Load, VirtualClock
from splitfl.transport.base.carrier import Carrier
from splitfl.wire import Envelope, Frame, codec_name, encode
from splitfl.wire.codec_meter import CodecMeter
from splitfl.wire.keyed import ReceivedReferences


class Exchange:
    """The method's server, the virtual clock, the erasure policies and the accounting, around one message.

    The work of one message is in order: `read`, `uplink`, `compute`, `serve`, `downlink`, `delivered`,
    `commit`; `compute` and `serve` are for all messages that are served together.
    """

    def __init__(
        self,
        server: ServerMethod,
        clock: VirtualClock,
        erasure: ErasurePolicies,
        events: Events,
        watcher: Watcher,
        codec: CodecConfig = EXACT,
        controller: RoundPlanner | None = None,
        *,
        power_w: float = 0.0,
        max_loss: float = math.inf,
        meter: CodecMeter | None = None,
    ) -> None:
        """Replies are encoded by `codec`, or by each client's plan with a `controller`; `meter` measures it.

        `power_w` is radiated while numbers are sent uncoded. A training loss above `max_loss`, or that is not
        finite, raises Diverged before the step becomes part of the state.
        """
        self._server = server
        self._controller = controller
        self._clock = clock
        self._erasure = erasure
        self._recovery = _WholeMessages() if erasure.is_reliable else erasure
        self._references = ReceivedReferences()
        self._events = events
        self._watcher = watcher
        self._codec = codec
        self._power_w = power_w
        self._max_loss = max_loss
        self._meter = meter
        self._loss_sum = 0.0
        self._samples = 0

    @property
    def round_began_s(self) -> float:
        """The start of the current round, in virtual seconds."""
        return self._clock.round_began_s

    def state(self) -> State:
        """The clock, the erasure policies, references and the controller; see Stateful.

        Only valid between rounds.
        """
        controller = under("controller", self._controller.state()) if self._controller else {}
        erasure = under("erasure", self._erasure.state()) | under("references", self._references.state())
        return under("clock", self._clock.state()) | erasure | controller

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._clock.restore(part(state, "clock"))
        self._erasure.restore(part(state, "erasure"))
        self._references.restore(part(state, "references"))
        if self._controller:
            self._controller.restore(part(state, "controller"))

    def read(self, frame: Frame) -> Message:
        """A client's message; raises WireError for a kind that clients do not send."""
        message = frame.message()
        if not isinstance(message, Message):
            raise WireError(f"the server has no answer to a {type(message).__name__}")
        return message

    def load(self, frame: Frame, message: Message) -> Load:
        """The link load of a client's message."""
        return self._recovery.load(message, len(frame), frame.codec, is_up=True)

    def depart(self, frame: Frame, message: Message, not_before_s: float = 0.0) -> Crossing:
        """Sends a client's message, once the client has computed it and not before `not_before_s`."""
        return self._clock.depart_up(frame.envelope, message, self.load(frame, message), not_before_s)

    def uplink(self, frame: Frame, message: Message, carrier: Carrier, not_before_s: float = 0.0) -> Crossing:
        """Sends a client's message over its own link; the delivered crossing."""
        return self._carried(self.depart(frame, message, not_before_s), frame.data, carrier)

    def land(self, crossing: Crossing, delivery: Delivery) -> Crossing:
        """The crossing with its delivery, including the time and energy of analog symbols."""
        return crossing.landed(delivery, self._power_w)

    def compute(self, turns: Sequence[Turn], ups: Sequence[Crossing | None]) -> list[ServerReply | None]:
        """The method's replies to messages that are served together; None for each that is lost or missing.

        Those of `Batched` that were received are one batch. For an activation of differences from rows that
        are not held here, the reply is an `UnknownReference`. Raises Diverged for a client whose own state is
        not finite.
        """
        messages = [
            self._received(turn, up) if up is not None else None for turn, up in zip(turns, ups, strict=True)
        ]
        batch = [(turn, one) for turn, one in zip(turns, messages, strict=True) if isinstance(one, Batched)]
        if len(batch) < 2:
            return list(map(self._reply_to, turns, messages))
        assert isinstance(self._server, BatchServer), "messages are served together if the method is able to"
        replies = iter(self._server.compute_batch(*zip(*batch, strict=True)))
        return [
            next(replies) if isinstance(message, Batched) else self._reply_to(turn, message)
            for turn, message in zip(turns, messages, strict=True)
        ]

    def serve(
        self,
        ups: Sequence[Crossing | None],
        replies: Sequence[ServerReply | None],
        not_before_s: float = 0.0,
    ) -> float:
        """Records the messages that have a reply, and their computation; the time of the replies.

        It begins when all messages have arrived or were given up, and not before `not_before_s`.
        """
        known_s = max((not_before_s, *(up.at_s for up in ups if up)))
        served = [(up, reply.flops) for up, reply in zip(ups, replies, strict=True) if up and reply]
        if not served:
            return 0.0
        return self._clock.serve([up for up, _ in served], [flops for _, flops in served], known_s)

    def reply(self, up: Crossing, outcome: ServerReply, done_s: float) -> Crossing:
        """Sends the reply at `done_s`."""
        envelope = up.envelope
        reply = self._recovery.reply_to_sent(envelope, outcome.reply)
        codec = self._codec
        if self._controller:
            codec = CodecConfig.at_cut(self._controller.plan(envelope.client).codec)
        data = encode(reply, envelope, codec)
        name = codec_name(codec, reply)
        if name != "none":  # both ends compute with decoded values
            if self._meter:
                self._meter.message(reply, codec)
            decoded = Frame(data).message()
            assert isinstance(decoded, Message)
            reply = decoded
        load = self._recovery.reply_load(envelope, reply, len(data), name)
        return self._clock.depart_down(envelope, reply, load, done_s, data)

    def downlink(self, up: Crossing, outcome: ServerReply, done_s: float, carrier: Carrier) -> Crossing:
        """Sends the reply over the client's own link at `done_s`; the delivered crossing."""
        down = self.reply(up, outcome, done_s)
        return self._carried(down, down.frame, carrier)

    def delivered(self, down: Crossing) -> bytes:
        """The frame for the client; rows are not quantised a second time."""
        received = self._recovery.reply_received(down)
        self._clock.delivered(down, is_lost=isinstance(received, Lost))
        return down.frame if received is down.message else encode(received, down.envelope)

    def acknowledge(self, envelope: Envelope) -> bytes:
        """The reply to a message without costs: `Leave`, `Absent` and `NotSelected`."""
        return encode(Done(), envelope)

    def late(self, up: Crossing, due_s: float) -> bytes:
        """The frame for a client whose message arrived after the round's end at `due_s`."""
        self._clock.late(up, due_s)
        return encode(LOST, up.envelope)

    def lost(self, up: Crossing, now_s: float = 0.0) -> bytes:
        """The frame for a client whose message was lost."""
        self._clock.lost(up, now_s)
        return encode(LOST, up.envelope)

    def lost_frame(self, envelope: Envelope) -> bytes:
        """The frame for a client whose round is over, without any cost."""
        return encode(LOST, envelope)

    def note(self, event: str, **values: int) -> None:
        """Writes an event on a change of membership."""
        self._events.write(event, **values)

    def all_began(self, round_index: int) -> None:
        """Notifies the watcher that every client has started this round."""
        self._watcher.all_began(round_index)

    def commit(self, turn: Turn, outcome: ServerReply | None, *, ends_round: bool) -> None:
        """Makes the work part of the state, and ends the round with its last turn.

        The method takes a message with an unknown reference for a lost one.
        Raises Diverged, with the client, round and step, for a loss beyond the bound.
        """
        if outcome is not None and outcome.losses:
            self._note(turn, outcome)
        is_unknown = outcome is not None and isinstance(outcome.reply, UnknownReference)
        self._server.commit(self._planned(turn), None if is_unknown else outcome)
        if ends_round:
            self.merge(turn.round)
            self.end(turn.round)

    def merge(self, round_index: int) -> None:
        """Aggregates the clients' uploads to the next version."""
        self._server.end_round(round_index)
        if self._controller:
            self._controller.ended(round_index)

    def end(self, round_index: int) -> None:
        """Ends the round on the clock and notifies the watcher."""
        train_loss = self._loss_sum / self._samples if self._samples else None
        self._loss_sum, self._samples = 0.0, 0
        self._watcher.ended(
            RoundEnd(round=round_index, finish_s=self._clock.end_round(), train_loss=train_loss)
        )

    def aged(self, turn: Turn, staleness: int) -> None:
        """Records the staleness of an upload."""
        self._clock.aged(turn, staleness)

    def _carried(self, crossing: Crossing, frame: bytes, carrier: Carrier) -> Crossing:
        delivery, received = carrier.carry(crossing.transfer, frame, crossing.load.sent_N)
        if received and received is not frame:
            crossing = replace(crossing, message=self.read(Frame(received)), frame=received)
        return self.land(crossing, delivery)

    def _received(self, turn: Turn, up: Crossing) -> Message | None:
        message = self._recovery.received(up)
        if isinstance(message, Activation) and message.reference_B is not None:
            return self._references.received(turn.client, message) or UnknownReference()
        if isinstance(message, Begin):
            if not message.is_finite:
                raise Diverged(
                    f"client {turn.client} begins round {turn.round} with adapters or optimiser state "
                    f"that are not finite: {ADVICE}"
                )
            if self._controller:
                self._controller.begins(turn.client, message)
        return message

    def _reply_to(self, turn: Turn, message: Message | None) -> ServerReply | None:
        if isinstance(message, UnknownReference):
            return ServerReply(reply=message)
        return self._server.compute(self._planned(turn), message) if message is not None else None

    def _planned(self, turn: Turn) -> Turn:
        return replace(turn, plan=self._controller.plan(turn.client)) if self._controller else turn

    def _note(self, turn: Turn, outcome: ServerReply) -> None:
        first = 0 if len(outcome.losses) > 1 else turn.lap - 1
        samples = outcome.samples // len(outcome.losses)
        self._watcher.stepped(turn.round, turn.client, len(outcome.losses))
        for step, loss in enumerate(outcome.losses, first if outcome.step is None else outcome.step):
            self._loss_sum += loss * samples
            self._samples += samples
            row = {"round": turn.round, "step": step, "client": turn.client, "loss": loss, "samples": samples}
            self._events.write("step", **row)
            if not (math.isfinite(loss) and loss <= self._max_loss):
                raise Diverged(
                    f"the training loss of client {turn.client} in round {turn.round}, step {step} "
                    f"is {loss}, beyond train.max_loss of {self._max_loss:g}: {ADVICE}"
                )


class _WholeMessages:
    """Replaces the erasure policies if all kinds are reliable: a message arrives whole or not at all."""

    def load(self, message: Message, frame_bytes: int, codec: str, *, is_up: bool) -> Load:
        return Load(payload_bytes=frame_bytes)

    def reply_load(self, envelope: Envelope, reply: Message, frame_bytes: int, codec: str) -> Load:
        return Load(payload_bytes=frame_bytes)

    def received(self, up: Crossing) -> Message | None:
        return up.message if up.outcome.is_complete else None

    def reply_to_sent(self, envelope: Envelope, reply: Message) -> Message:
        return reply

    def reply_received(self, down: Crossing) -> Reply:
        return down.message if down.outcome.is_complete else LOST
