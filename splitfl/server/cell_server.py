"""The server's side where all clients share one cell: whoever sends slows the others down.

What becomes of a message depends on what the others send meanwhile, so time in the cell goes
on only while nobody is at work: every client has sent something or waits for its answer, and
the server has nothing to do. Whatever is sent then is sent later than all that was decided.
There is nothing to guess and nothing to take back, and the same messages have the same fates
on every road (a conservative simulation: Fujimoto, CACM 33(10), 1990, with no lookahead).

When a round ends something is always under way: the last answers, and the first messages of
clients that had theirs. A run that is gone on with has them under way again. An answer lands then
without a word, since its client knows it; a message is said once more, and is not sent again.
"""

import json
from dataclasses import asdict, dataclass
from typing import Any, Final

import torch
from torch import Tensor

from channel.core.link import Transfer
from splitfl.core.errors import ConfigError, Undelivered, WireError
from splitfl.core.messages import Control, Message
from splitfl.core.state import State, numbered, part, raw, raw_in, tensor_in, under
from splitfl.federation.turns import Turns
from splitfl.methods.parts.method import Turn
from splitfl.server.event_server import EventServer
from splitfl.server.exchange import Answering, Exchange, Posted
from splitfl.server.replayable_cell import Cell, ReplayableCell
from splitfl.server.server_loop import Answer
from splitfl.server.virtual_clock import Arrival, Departure, Load, crossed
from splitfl.wire import decode

MAX_WAIT_S: Final = 300.0
"""Virtual time after which a message that is still not there never will be."""


@dataclass(kw_only=True, eq=False)
class _Pending:
    """A client's message until it is answered."""

    posted: Posted
    departure: Departure
    answer: Answer
    arrival: Arrival | None = None
    answering: Answering | None = None


class CellServer(EventServer[_Pending]):
    """A station whose clients are the users of a cell.

    A begin is answered in its turn like every message: not before those of clients of lower
    number are there. `power_w` is radiated while numbers are sent as they are.
    """

    def __init__(self, desk: Exchange, cell: Cell, seed: int, clients: int, power_w: float) -> None:
        super().__init__(desk, clients, "a run over link.scenario")
        self._cell = ReplayableCell(cell)
        self._seed = seed
        self._power_w = power_w
        self._begun: set[int] = set()
        self._turns = Turns(seed, 0, clients, 0)
        self._order = self._begins()
        self._place = 0
        self._returning: dict[int, Answering] = {}  # answers of before, which their clients know
        self._early: dict[int, tuple[Posted, Answer]] = {}  # what these say once they have landed
        self._sent: dict[int, tuple[Departure, Arrival | None]] = {}  # messages of before, not said again yet

    @property
    def _round(self) -> int:
        return self._turns.round_index

    def state(self) -> State:
        """See Station. To be taken as a round ends: the next one has begun for nobody here."""
        held: dict[str, Tensor] = {"next": torch.tensor([self._round + 1, self._turns.base + self._place])}
        for client, one in self._pending.items():
            departure = one.answering.departure if one.answering is not None else one.departure
            frame = one.answering.frame if one.answering is not None else b""
            held |= under(f"under_way.{client}", {"departure": _written(departure), "frame": raw(frame)})
        return held | under("desk", self._desk.state()) | under("cell", self._cell.state())

    def restore(self, state: State) -> None:
        """See Station."""
        self._desk.restore(part(state, "desk"))
        delivered = self._cell.restore(part(state, "cell"))
        round_index, base = tensor_in(state, "next").tolist()
        self._turns = Turns(self._seed, round_index, self._clients, base)
        self._expected = dict.fromkeys(range(self._clients), (round_index, 0))
        for client, one in numbered(part(state, "under_way")).items():
            departure, frame = _departure(one), raw_in(one, "frame")
            if frame:
                reply, envelope = decode(frame)
                assert isinstance(reply, Message)
                self._returning[client] = Answering(
                    envelope=envelope, reply=reply, frame=frame, departure=departure
                )
            else:
                transfer = departure.transfer
                delivery = delivered.get((client, transfer.direction, transfer.sequence))
                arrival = crossed(departure, delivery, self._power_w) if delivery is not None else None
                self._sent[client] = departure, arrival

    def _take(self, posted: Posted, answer: Answer) -> None:
        self._expect(posted)
        client = posted.envelope.client
        if client in self._returning:
            self._early[client] = posted, answer
        elif client in self._sent:
            departure, arrival = self._sent.pop(client)
            if departure.load != self._desk.load(posted):
                raise WireError(
                    f"client {client} says something else than it had said before the run stopped"
                )
            self._pending[client] = _Pending(
                posted=posted, departure=departure, answer=answer, arrival=arrival
            )
        else:
            self._depart(posted, answer)

    def _depart(self, posted: Posted, answer: Answer) -> None:
        departure = self._desk.leaves(posted, self._cell.now_s)
        self._pending[posted.envelope.client] = _Pending(posted=posted, departure=departure, answer=answer)
        self._cell.submit(departure.transfer)

    def _owing(self) -> bool:
        return len(self._pending) + len(self._early) + len(self.left) < self._clients

    def _expect(self, posted: Posted) -> None:
        envelope, message = posted.envelope, posted.message
        expected = self._expected.get(envelope.client)
        is_begin = isinstance(message, Control) and message.ask == "begin"
        if expected is not None and is_begin and expected[1]:
            expected = (expected[0] + 1, 0)
        if (
            envelope.client in self._pending
            or (envelope.round, envelope.lap) != expected
            or is_begin != (envelope.lap == 0)
        ):
            raise WireError(
                f"client {envelope.client} has no message {envelope.lap} in round {envelope.round}, or had it"
            )
        self._expected[envelope.client] = (envelope.round, envelope.lap + 1)

    def _go_on(self) -> None:
        """Until somebody has to work who is not here: serves what has come, lets time pass for the rest."""
        while self._failure is None and (self._pending or self._early) and not self._owing():
            if not self._serve_next():
                self._let_time_pass()

    def _serve_next(self) -> bool:
        """Works for the message whose turn it is, if it has come; whether there was one."""
        if self._place == len(self._order):
            return False
        client, lap = self._order[self._place]
        pending = self._pending.get(client)
        if pending is None or pending.arrival is None or pending.posted.envelope.lap != lap:
            return False
        if pending.posted.envelope.round != self._turns.round_index:
            return False
        self._serve(client, lap, pending, pending.arrival)
        return True

    def _serve(self, client: int, lap: int, pending: _Pending, arrival: Arrival) -> None:
        position = self._turns.base + self._place
        message = pending.posted.message
        if isinstance(message, Control) and message.ask == "begin":
            self._turns.begin(client, message.steps + 1)
            self._begun.add(client)
            if len(self._begun) == self._clients:
                self._order += self._turns.order()
        ticket = Turn(client=client, round=self._turns.round_index, lap=lap, position=position)
        outcome = self._desk.compute(ticket, pending.posted, arrival)
        now_s = self._cell.now_s
        self._place += 1
        if outcome is None:
            self._reply(client, self._desk.lost(pending.posted, arrival, now_s))
        else:
            pending.answering = self._desk.answer(pending.posted, arrival, outcome, now_s)
            pending.arrival = None
            self._cell.submit(pending.answering.departure.transfer)
        ends_round = self._turns.end == position + 1
        self._desk.commit(ticket, outcome, ends_round=ends_round)
        if self._place == self._clients:
            self._desk.begun(self._turns.round_index)
        if ends_round:
            self._turns = Turns(self._seed, self._turns.round_index + 1, self._clients, position + 1)
            self._order, self._place, self._begun = self._begins(), 0, set()

    def _let_time_pass(self) -> None:
        under_way = self._under_way()
        if not under_way:
            raise WireError("every client has sent a message whose turn is not next")
        first_s = min(departure.transfer.start_s for departure in under_way.values())
        over = self._cell.advance(max(self._cell.now_s, first_s) + MAX_WAIT_S)
        if not over:
            waiting = ", ".join(map(str, sorted(under_way)))
            raise Undelivered(
                f"what client {waiting} sends or is sent did not cross within {MAX_WAIT_S:g} virtual s: "
                "it is out of reach in link.scenario, or too much for it"
            )
        for transfer, delivery in over:
            if transfer.client in self._returning:
                known = self._returning.pop(transfer.client)
                self._desk.landed(known, crossed(known.departure, delivery, self._power_w))
                self._depart(*self._early.pop(transfer.client))
                continue
            pending = self._pending[transfer.client]
            if pending.answering is None:
                pending.arrival = crossed(pending.departure, delivery, self._power_w)
            else:
                arrival = crossed(pending.answering.departure, delivery, self._power_w)
                self._reply(transfer.client, self._desk.landed(pending.answering, arrival))

    def _under_way(self) -> dict[int, Departure]:
        under_way = {
            client: one.answering.departure if one.answering is not None else one.departure
            for client, one in self._pending.items()
            if one.arrival is None
        }
        return under_way | {client: one.departure for client, one in self._returning.items()}

    def _reply(self, client: int, frame: bytes) -> None:
        """Time stands still until this client has sent its next message, or left."""
        self._pending.pop(client).answer(frame)

    def _begins(self) -> list[tuple[int, int]]:
        return [(client, 0) for client in range(self._clients)]


def _written(departure: Departure) -> Tensor:
    table = {"kind": departure.kind, "start_s": departure.start_s}
    return raw(
        json.dumps(table | {"load": asdict(departure.load), "transfer": asdict(departure.transfer)}).encode()
    )


def _departure(state: State) -> Departure:
    try:
        table: dict[str, Any] = json.loads(raw_in(state, "departure"))
        return Departure(
            kind=table["kind"],
            start_s=table["start_s"],
            load=Load(**table["load"]),
            transfer=Transfer(**table["transfer"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"a checkpoint does not say what was under way in the cell: {error!r}") from None
