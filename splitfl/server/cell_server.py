"""The server of a run whose clients share one cell: each transmission slows the others down.

A message's delivery depends on concurrent transmissions, so time in the cell advances only while no node
computes: every client has a message here or waits for its reply, and the server is idle. Later messages are
then sent after all simulated time, without speculation or rollback, and the same messages have the same
deliveries on every transport (a conservative simulation: Fujimoto, CACM 33(10), 1990, with no lookahead).

At the end of a round some transmissions are always in flight: the last replies, and the first messages of
clients that received theirs. A resumed run has them in flight again. Such a reply is not delivered, since its
client already has it; such a message is sent by its client again, and is not transmitted again.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from channel.core.link import Delivery
from splitfl.core.errors import Undelivered, WireError
from splitfl.core.messages import Begin, Message, NotSelected
from splitfl.core.state import State, numbered, part, raw, raw_in, tensor_in, under
from splitfl.methods.parts.method import ServerReply, Turn
from splitfl.server.cell_messages import CellMessage, SentBefore, departure, sent_before
from splitfl.server.event_server import EventServer
from splitfl.server.exchange import Exchange
from splitfl.server.replayable_cell import CellEngine, ReplayableCell
from splitfl.server.server_loop import Answer
from splitfl.server.service_order import Turns
from splitfl.server.virtual_clock import Crossing
from splitfl.wire import Envelope, Frame

MAX_WAIT_S: Final = 300.0
"""Virtual time after which a message counts as undeliverable."""


class CellServer(EventServer[CellMessage]):
    """Serves clients that are the users of one cell.

    A `Begin` is answered in service order like every message: after those of clients with lower indices.
    After them, each `batch` messages of a lap are served together, once all of them have arrived.
    """

    def __init__(self, exchange: Exchange, cell: CellEngine, seed: int, clients: int, batch: int = 1) -> None:
        super().__init__(exchange, clients, "a run over link.scenario")
        self._cell = ReplayableCell(cell)
        self._seed = seed
        self._batch = batch
        self._begun: set[int] = set()
        self._turns = self._turns_of(0, 0)
        self._order = self._begins()
        self._place = 0
        self._returning: dict[int, Crossing] = {}  # in flight at the checkpoint; their clients have them
        self._early: dict[int, tuple[Frame, Message, Answer]] = {}  # their clients' next messages
        self._sent: dict[int, SentBefore] = {}
        self._skipping: dict[int, tuple[Envelope, Answer]] = {}  # of clients that are not selected

    @property
    def _round(self) -> int:
        return self._turns.round_index

    def state(self) -> State:
        """See ServerLoop. Only valid at the end of a round, before any client begins the next."""
        tensors: dict[str, Tensor] = {"next": torch.tensor([self._round + 1, self._turns.base + self._place])}
        for client, one in self._pending.items():
            frame = one.down.frame if one.down is not None else b""
            table = {"departure": departure(one.crossing), "frame": raw(frame)}
            tensors |= under(f"under_way.{client}", table)
        return tensors | under("exchange", self._exchange.state()) | under("cell", self._cell.state())

    def restore(self, state: State) -> None:
        """See ServerLoop."""
        self._exchange.restore(part(state, "exchange"))
        delivered = self._cell.restore(part(state, "cell"))
        round_index, base = tensor_in(state, "next").tolist()
        self._turns = self._turns_of(round_index, base)
        self.membership.start_at(round_index)
        for client, one in numbered(part(state, "under_way")).items():
            sent, data = sent_before(one), raw_in(one, "frame")
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
        client = frame.envelope.client
        self._expect(frame.envelope, message)
        self.membership.advance(client, is_last=isinstance(message, NotSelected))
        if client in self._returning:
            self._early[client] = frame, message, answer
        elif client in self._sent:
            self._take_resent(frame, message, answer)
        else:
            self._start(frame, message, answer)

    def _take_resent(self, frame: Frame, message: Message, answer: Answer) -> None:
        """A message that was in flight at the checkpoint: it is not transmitted again."""
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
        self._pending[frame.envelope.client] = CellMessage(up=up, answer=answer)

    def _start(self, frame: Frame, message: Message, answer: Answer) -> None:
        """Transmits a message, or keeps one without costs until its turn."""
        if isinstance(message, NotSelected):
            self._skipping[frame.envelope.client] = frame.envelope, answer
            return
        up = self._exchange.depart(frame, message, self._cell.now_s)
        self._pending[frame.envelope.client] = CellMessage(up=up, answer=answer)
        self._cell.submit(up.transfer)

    def _owing(self) -> bool:
        here = len(self._pending) + len(self._early) + len(self._skipping)
        return here + len(self.membership.left) < self._clients

    def _expect(self, envelope: Envelope, message: Message) -> None:
        expected = self.membership.expected(envelope.client)
        if expected is not None and isinstance(message, Begin | NotSelected) and expected[1]:
            self.membership.expect(envelope.client, expected[0] + 1, 0)
        self._check_expected(envelope, message)

    def _run(self) -> None:
        """Serves arrived messages in order and advances time, until a client has to compute."""
        while self._failure is None and self._is_busy and not self._owing():
            if not self._serve_next():
                self._advance_time()

    @property
    def _is_busy(self) -> bool:
        return bool(self._pending or self._early or self._skipping)

    def _serve_next(self) -> bool:
        """Serves the next message in service order, with its group, if they have arrived; else False."""
        if self._place == len(self._order):
            return False
        client, lap = self._order[self._place]
        if lap == 0 and client in self._skipping:
            return self._pass_unselected(client)
        size = len(self._turns.group(self._turns.base + self._place))
        group = [self._arrived(*place) for place in self._order[self._place : self._place + size]]
        arrived = [one for one in group if one is not None]
        if len(arrived) < size:
            return False
        self._serve(arrived)
        return True

    def _arrived(self, client: int, lap: int) -> CellMessage | None:
        """The client's message of this lap if it has arrived and has no reply yet."""
        pending = self._pending.get(client)
        if pending is None or pending.down is not None or pending.up.delivery is None:
            return None
        envelope = pending.up.envelope
        return pending if (envelope.round, envelope.lap) == (self._turns.round_index, lap) else None

    def _pass_unselected(self, client: int) -> bool:
        """Passes the only turn of a client that is not selected; returns whether its round has begun."""
        envelope, answer = self._skipping[client]
        if envelope.round != self._turns.round_index:
            return False
        del self._skipping[client]
        self._begin(client, 1)
        turn = self._turn(self._place, client, 0)
        self._place += 1
        self._end_turn(turn, None)
        answer(self._exchange.acknowledge(envelope))
        return True

    def _serve(self, group: Sequence[CellMessage]) -> None:
        exchange, ups = self._exchange, [one.up for one in group]
        turns = [
            self._turn(place, up.envelope.client, up.envelope.lap)
            for place, up in enumerate(ups, self._place)
        ]
        for up in ups:
            if isinstance(up.message, Begin):
                self._begin(up.envelope.client, up.message.steps + 1)
        replies = exchange.compute(turns, ups)
        done_s = max(exchange.serve(ups, replies), self._cell.now_s)
        for turn, pending, reply in zip(turns, group, replies, strict=True):
            self._answer(turn, pending, reply, done_s)

    def _answer(self, turn: Turn, pending: CellMessage, reply: ServerReply | None, done_s: float) -> None:
        """Sends the reply and commits the turn."""
        exchange = self._exchange
        self._place += 1
        if reply is None:
            self._reply(turn.client, exchange.lost(pending.up, self._cell.now_s))
        else:
            pending.down = exchange.reply(pending.up, reply, done_s)
            self._cell.submit(pending.down.transfer)
        self._end_turn(turn, reply)

    def _turn(self, place: int, client: int, lap: int) -> Turn:
        """The turn at this place of the round's order."""
        position = self._turns.base + place
        return Turn(client=client, round=self._turns.round_index, lap=lap, position=position)

    def _begin(self, client: int, laps: int) -> None:
        self._turns.begin(client, laps)
        self._begun.add(client)
        if len(self._begun) == self._clients:
            self._order += self._turns.order()

    def _end_turn(self, turn: Turn, outcome: ServerReply | None) -> None:
        """Commits the turn of the place before this one, and starts the next round after the last turn."""
        ends_round = self._turns.end == turn.position + 1
        self._exchange.commit(turn, outcome, ends_round=ends_round)
        if self._place == self._clients:
            self._exchange.all_began(turn.round)
        if ends_round:
            self._turns = self._turns_of(turn.round + 1, turn.position + 1)
            self._order, self._place, self._begun = self._begins(), 0, set()

    def _turns_of(self, round_index: int, base: int) -> Turns:
        return Turns(self._seed, round_index, self._clients, base, self._batch)

    def _advance_time(self) -> None:
        in_flight = self._in_flight()
        if not in_flight:
            raise WireError("deadlock: no pending message is next in the service order")
        first_s = min(one.transfer.start_s for one in in_flight.values())
        delivered = self._cell.advance(max(self._cell.now_s, first_s) + MAX_WAIT_S)
        if not delivered:
            waiting = ", ".join(map(str, sorted(in_flight)))
            raise Undelivered(
                f"no delivery to or from client {waiting} within {MAX_WAIT_S:g} virtual s: "
                "it is out of coverage in link.scenario, or the cell is overloaded"
            )
        for transfer, delivery in delivered:
            self._on_delivery(transfer.client, delivery)

    def _on_delivery(self, client: int, delivery: Delivery) -> None:
        exchange = self._exchange
        if client in self._returning:
            exchange.delivered(exchange.land(self._returning.pop(client), delivery))
            self._start(*self._early.pop(client))
            return
        pending = self._pending[client]
        if pending.down is None:
            pending.up = exchange.land(pending.up, delivery)
        else:
            self._reply(client, exchange.delivered(exchange.land(pending.down, delivery)))

    def _in_flight(self) -> dict[int, Crossing]:
        in_flight = {
            client: one.crossing for client, one in self._pending.items() if one.crossing.delivery is None
        }
        return in_flight | self._returning

    def _reply(self, client: int, frame: bytes) -> None:
        """Delivers the reply; virtual time stops until this client sends its next message or leaves."""
        self._pending.pop(client).answer(frame)

    def _begins(self) -> list[tuple[int, int]]:
        return [(client, 0) for client in range(self._clients)]
