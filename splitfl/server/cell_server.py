"""The server of a run whose clients share one cell: each transmission slows the others down.

What becomes of a message depends on what the others send meanwhile, so time in the cell advances only while
nobody computes: every client has a message here or waits for its reply, and the server is idle. Whatever is
sent then is sent later than all that was decided; nothing is guessed and nothing taken back, and the same
messages have the same deliveries on every transport (a conservative simulation: Fujimoto, CACM 33(10), 1990,
with no lookahead).

When a round ends something is always under way: the last replies, and the first messages of clients that had
theirs. A resumed run has them under way again. A reply is then delivered to nobody, since its client has it
already; a message is sent by its client once more, and does not cross again.
"""

import json
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from channel.core.link import Delivery, Transfer
from splitfl.core.errors import ConfigError, Undelivered, WireError
from splitfl.core.messages import Begin, Message
from splitfl.core.state import State, numbered, part, raw, raw_in, tensor_in, under
from splitfl.methods.parts.method import Turn
from splitfl.server.event_server import EventServer
from splitfl.server.exchange import Exchange
from splitfl.server.replayable_cell import Cell, ReplayableCell
from splitfl.server.server_loop import Answer
from splitfl.server.service_order import Turns
from splitfl.server.virtual_clock import Crossing, Load
from splitfl.wire import Envelope, Frame

MAX_WAIT_S: Final = 300.0
"""Virtual time after which a message that is still not there never will be."""


@dataclass(kw_only=True, eq=False)
class _Pending:
    """A client's message until it is answered; `down` is its reply on the way."""

    up: Crossing
    answer: Answer
    down: Crossing | None = None

    @property
    def crossing(self) -> Crossing:
        """What is on its way, or has landed last."""
        return self.down or self.up


@dataclass(frozen=True, kw_only=True, eq=False)
class _Sent:
    """A message of before the run stopped, which its client has not sent again yet."""

    start_s: float
    load: Load
    transfer: Transfer
    delivery: Delivery | None = None


class CellServer(EventServer[_Pending]):
    """Its clients are the users of a cell.

    A begin is answered in its turn like every message: not before those of clients of lower number are there.
    """

    def __init__(self, exchange: Exchange, cell: Cell, seed: int, clients: int) -> None:
        super().__init__(exchange, clients, "a run over link.scenario")
        self._cell = ReplayableCell(cell)
        self._seed = seed
        self._begun: set[int] = set()
        self._turns = Turns(seed, 0, clients, 0)
        self._order = self._begins()
        self._place = 0
        self._returning: dict[int, Crossing] = {}  # replies of before, which their clients have
        self._early: dict[int, tuple[Frame, Message, Answer]] = {}  # sent by these before they have landed
        self._sent: dict[int, _Sent] = {}

    @property
    def _round(self) -> int:
        return self._turns.round_index

    def state(self) -> State:
        """See ServerLoop. To be taken as a round ends: the next one has begun for nobody here."""
        held: dict[str, Tensor] = {"next": torch.tensor([self._round + 1, self._turns.base + self._place])}
        for client, one in self._pending.items():
            frame = one.down.frame if one.down is not None else b""
            table = {"departure": _written(one.crossing), "frame": raw(frame)}
            held |= under(f"under_way.{client}", table)
        return held | under("exchange", self._exchange.state()) | under("cell", self._cell.state())

    def restore(self, state: State) -> None:
        """See ServerLoop."""
        self._exchange.restore(part(state, "exchange"))
        delivered = self._cell.restore(part(state, "cell"))
        round_index, base = tensor_in(state, "next").tolist()
        self._turns = Turns(self._seed, round_index, self._clients, base)
        self.membership.start_at(round_index)
        for client, one in numbered(part(state, "under_way")).items():
            sent, data = _sent(one), raw_in(one, "frame")
            if data:
                frame = Frame(data)
                reply = frame.message()
                assert isinstance(reply, Message)
                self._returning[client] = Crossing(
                    envelope=frame.envelope,
                    message=reply,
                    start_s=sent.start_s,
                    load=sent.load,
                    transfer=sent.transfer,
                    frame=data,
                )
            else:
                transfer = sent.transfer
                delivery = delivered.get((client, transfer.direction, transfer.sequence))
                self._sent[client] = replace(sent, delivery=delivery)

    def _take(self, frame: Frame, message: Message, answer: Answer) -> None:
        self._expect(frame.envelope, message)
        client = frame.envelope.client
        if client in self._returning:
            self._early[client] = frame, message, answer
        elif client in self._sent:
            self._take_again(frame, message, answer)
        else:
            self._depart(frame, message, answer)

    def _take_again(self, frame: Frame, message: Message, answer: Answer) -> None:
        """A message of before the run stopped: it is on its way already, or has landed."""
        sent = self._sent.pop(frame.envelope.client)
        if sent.load != self._exchange.load(frame, message):
            raise WireError(
                f"client {frame.envelope.client}'s first message after resume differs from the one in the "
                "checkpoint"
            )
        up = Crossing(
            envelope=frame.envelope,
            message=message,
            start_s=sent.start_s,
            load=sent.load,
            transfer=sent.transfer,
        )
        if sent.delivery is not None:
            up = self._exchange.land(up, sent.delivery)
        self._pending[frame.envelope.client] = _Pending(up=up, answer=answer)

    def _depart(self, frame: Frame, message: Message, answer: Answer) -> None:
        up = self._exchange.depart(frame, message, self._cell.now_s)
        self._pending[frame.envelope.client] = _Pending(up=up, answer=answer)
        self._cell.submit(up.transfer)

    def _owing(self) -> bool:
        return len(self._pending) + len(self._early) + len(self.membership.left) < self._clients

    def _expect(self, envelope: Envelope, message: Message) -> None:
        expected = self.membership.expected(envelope.client)
        if expected is not None and isinstance(message, Begin) and expected[1]:
            self.membership.expect(envelope.client, expected[0] + 1, 0)
        self._check_expected(envelope, message)
        self.membership.advance(envelope.client, is_last=False)

    def _run(self) -> None:
        """Serves what has arrived and lets time pass for the rest, until a client has to compute."""
        while self._failure is None and (self._pending or self._early) and not self._owing():
            if not self._serve_next():
                self._let_time_pass()

    def _serve_next(self) -> bool:
        """Serves the message whose turn it is, if it has arrived; whether it had."""
        if self._place == len(self._order):
            return False
        client, lap = self._order[self._place]
        pending = self._pending.get(client)
        if pending is None or pending.down is not None or pending.up.delivery is None:
            return False
        envelope = pending.up.envelope
        if (envelope.round, envelope.lap) != (self._turns.round_index, lap):
            return False
        self._serve(pending)
        return True

    def _serve(self, pending: _Pending) -> None:
        up, exchange, client = pending.up, self._exchange, pending.up.envelope.client
        position = self._turns.base + self._place
        if isinstance(up.message, Begin):
            self._turns.begin(client, up.message.steps + 1)
            self._begun.add(client)
            if len(self._begun) == self._clients:
                self._order += self._turns.order()
        turn = Turn(client=client, round=self._turns.round_index, lap=up.envelope.lap, position=position)
        outcome = exchange.compute(turn, up)
        now_s = self._cell.now_s
        self._place += 1
        if outcome is None:
            self._reply(client, exchange.lost(up, now_s))
        else:
            pending.down = exchange.reply(up, outcome, now_s)
            self._cell.submit(pending.down.transfer)
        ends_round = self._turns.end == position + 1
        exchange.commit(turn, outcome, ends_round=ends_round)
        if self._place == self._clients:
            exchange.all_began(self._turns.round_index)
        if ends_round:
            self._turns = Turns(self._seed, self._turns.round_index + 1, self._clients, position + 1)
            self._order, self._place, self._begun = self._begins(), 0, set()

    def _let_time_pass(self) -> None:
        under_way = self._under_way()
        if not under_way:
            raise WireError("deadlock: no pending message is next in the service order")
        first_s = min(one.transfer.start_s for one in under_way.values())
        over = self._cell.advance(max(self._cell.now_s, first_s) + MAX_WAIT_S)
        if not over:
            waiting = ", ".join(map(str, sorted(under_way)))
            raise Undelivered(
                f"what client {waiting} sends or is sent did not cross within {MAX_WAIT_S:g} virtual s: "
                "it is out of reach in link.scenario, or too much for it"
            )
        for transfer, delivery in over:
            self._landed(transfer.client, delivery)

    def _landed(self, client: int, delivery: Delivery) -> None:
        exchange = self._exchange
        if client in self._returning:
            exchange.delivered(exchange.land(self._returning.pop(client), delivery))
            self._depart(*self._early.pop(client))
            return
        pending = self._pending[client]
        if pending.down is None:
            pending.up = exchange.land(pending.up, delivery)
        else:
            self._reply(client, exchange.delivered(exchange.land(pending.down, delivery)))

    def _under_way(self) -> dict[int, Crossing]:
        under_way = {
            client: one.crossing for client, one in self._pending.items() if one.crossing.delivery is None
        }
        return under_way | self._returning

    def _reply(self, client: int, frame: bytes) -> None:
        """Time stands still until this client has sent its next message, or left."""
        self._pending.pop(client).answer(frame)

    def _begins(self) -> list[tuple[int, int]]:
        return [(client, 0) for client in range(self._clients)]


def _written(crossing: Crossing) -> Tensor:
    table = {
        "start_s": crossing.start_s,
        "load": asdict(crossing.load),
        "transfer": asdict(crossing.transfer),
    }
    return raw(json.dumps(table).encode())


def _sent(state: State) -> _Sent:
    try:
        table: dict[str, Any] = json.loads(raw_in(state, "departure"))
        load, transfer = Load(**table["load"]), Transfer(**table["transfer"])
        return _Sent(start_s=table["start_s"], load=load, transfer=transfer)
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"a checkpoint does not say what was under way in the cell: {error!r}") from None
