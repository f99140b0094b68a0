"""The server's side of every road: a frame comes in, a frame goes out.

Knows no transport. `handle` may be called from one thread or from one for each client;
the gate brings the work into the same order either way.
"""

from collections import Counter
from collections.abc import Callable
from typing import Protocol

import torch

from channel.core.link import Link
from splitfl.core.errors import RejoinRequired, WireError
from splitfl.core.messages import Activation, Control
from splitfl.core.state import State, part, tensor_in, under
from splitfl.methods.parts.method import ServerReply, Turn
from splitfl.server.absent_clients import AbsentClients
from splitfl.server.exchange import Exchange, Posted
from splitfl.server.service_order import ServiceOrder
from splitfl.server.virtual_clock import Arrival, Departure, crossed
from splitfl.wire import encode

Answer = Callable[[bytes], None]


class ServerLoop(Protocol):
    """Answers the frames of all clients."""

    @property
    def left(self) -> dict[int, Control]:
        """What each client that has taken leave said."""

    def handle(self, frame: bytes, answer: Answer) -> None:
        """Answers one frame by calling `answer` once; returns when its work is part of the state.

        Raises WireError for what is not a message, and what `fail` was told where the turn never comes.
        """

    def fail(self, error: Exception) -> None:
        """Ends every wait with this error."""

    def joins(self, client: int, kept: Callable[[int], int]) -> int:
        """The round with which this client goes on; waits until that is settled.

        `kept` says of the round through which one it had been in what it goes to for that.
        """

    def lost(self, client: int, until: int | None = None) -> None:
        """This client is gone; the others go on without it until it joins again, or until round `until`."""

    def pass_over(self, client: int) -> None:
        """Waits for this client's next turn and lets it go by."""

    def awaited(self) -> tuple[int, int] | None:
        """The client that holds others up, and the position of the message that they wait for."""

    def answered(self) -> frozenset[int]:
        """Who is there and has said what the others wait for: of this lap, or of one that comes later."""

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """The round that is not over, and who is there and has not finished it."""

    @property
    def away(self) -> frozenset[int]:
        """The clients that are gone."""

    def state(self) -> State | None:
        """Where the run stands between two rounds, but for the method's server and the ledger.

        See Stateful; None for a station that cannot be stopped and gone on with.
        """

    def restore(self, state: State) -> None:
        """See Stateful; no message may have come yet."""


class SyncServer:
    """A station for links that each client has to itself: what becomes of a message is known as it leaves.

    `power_w` is radiated while numbers are sent as they are.
    """

    def __init__(
        self,
        desk: Exchange,
        link: Link,
        gate: ServiceOrder,
        power_w: float,
        *,
        clients: int,
        rounds: int,
        least: int = 1,
        deadline_s: float = 0.0,
    ) -> None:
        """A round is begun with at least `least` of the clients there.

        What comes later than `deadline_s` after its round began is too late, and all that its client has
        still to say in that round is unsaid (0: nothing ever is).
        """
        self._desk = desk
        self._link = link
        self._gate = gate
        self._power_w = power_w
        self._next = (0, 0)  # round, and position of its first message
        self._expected = dict.fromkeys(range(clients), (0, 0))
        self._absent: dict[int, int] = {}  # the last round of which a client has missed turns
        self._back: dict[int, int] = {}  # after which round a client that has come back was kept
        self._joined: Counter[int] = Counter()
        self._deadline_s = deadline_s
        self._late: dict[int, int] = {}  # the last round that was over for a client before it was done
        self._stand_ins = AbsentClients(self, clients, rounds, least)

    @property
    def left(self) -> dict[int, Control]:
        return self._desk.left

    def handle(self, frame: bytes, answer: Answer) -> None:
        """See Station."""
        posted = self._desk.open(frame)
        goodbye = self._desk.goodbye(posted)
        if goodbye is not None:
            assert isinstance(posted.message, Control)
            answer(goodbye)
            self.left[posted.envelope.client] = posted.message  # the server may close from here on
            return
        ask = posted.message.ask if isinstance(posted.message, Control) else ""
        turn = {"pass": self._sit_out, "away": self._leave_for}.get(ask, self._take_turn)
        self._stand_ins.work(posted.envelope.client, lambda: turn(posted, answer))
        if ask == "away":
            answer(encode(Control(ask="done", round=posted.envelope.round), posted.envelope))

    def fail(self, error: Exception) -> None:
        """See Station."""
        self._gate.fail(error)
        self._stand_ins.fail(error)

    @property
    def away(self) -> frozenset[int]:
        """See Station."""
        return self._stand_ins.away

    def joins(self, client: int, kept: Callable[[int], int]) -> int:
        """See Station."""
        self._joined[client] += 1
        round_index = self._stand_ins.joins(client)
        through = kept(round_index)
        if through + 1 < round_index:
            self._back[client] = through
        return round_index

    def lost(self, client: int, until: int | None = None) -> None:
        """See Station."""
        self._stand_ins.lost(client, until=until)

    def awaited(self) -> tuple[int, int] | None:
        """See Station."""
        position, client = self._gate.awaited()
        is_holding = client is not None and self._stand_ins.is_holding_up(client)
        return (client, position) if client is not None and is_holding else None

    def answered(self) -> frozenset[int]:
        """See Station."""
        _, client = self._gate.awaited()
        if client is None:
            return frozenset()
        now, here, away = self._expected[client], self._stand_ins.working, self._stand_ins.away
        said = (one for one, at in self._expected.items() if one in here or at > now)
        return frozenset(one for one in said if one not in away)

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """See Station."""
        round_index, away = self._gate.round_index, self._stand_ins.away
        late = (client for client, (at, _) in self._expected.items() if at == round_index)
        return round_index, frozenset(client for client in late if client not in away)

    def expected(self, client: int) -> tuple[int, int]:
        """See Seats."""
        return self._expected[client]

    def pass_over(self, client: int) -> None:
        """See Seats: nobody hears of this turn, as of one whose message was lost."""
        round_index = self._expected[client][0]
        is_first = self._absent.get(client) != round_index
        self._absent[client] = round_index
        self._let_pass(client, is_noted=is_first)

    def state(self) -> State:
        """See Station."""
        return under("desk", self._desk.state()) | {"next": torch.tensor(self._next)}

    def restore(self, state: State) -> None:
        """See Station."""
        self._desk.restore(part(state, "desk"))
        round_index, position = tensor_in(state, "next").tolist()
        self._next = round_index, position
        self._expected = dict.fromkeys(self._expected, (round_index, 0))
        self._gate.start_at(round_index, position)

    def _let_pass(self, client: int, *, is_noted: bool) -> None:
        round_index, lap = self._expected[client]
        position = self._gate.admit(client, round_index, lap, alone=False)
        if lap == 0:
            self._gate.begin(client, 1)
        self._admitted(position, client, round_index, lap)
        self._gate.await_commit(position)
        if is_noted:
            self._desk.noted("absent", round=round_index, lap=lap, client=client)
        self._commit(Turn(client=client, round=round_index, lap=lap, position=position), None)

    def _sit_out(self, posted: Posted, answer: Answer) -> None:
        """For a client that is not selected; it costs nothing."""
        self._check_turn(posted)
        self._let_pass(posted.envelope.client, is_noted=False)
        answer(encode(Control(ask="done", round=posted.envelope.round), posted.envelope))

    def _leave_for(self, posted: Posted, answer: Answer) -> None:
        """For a client that will be away for some rounds; `handle` answers once it may ask for its seat."""
        assert isinstance(posted.message, Control)
        self._check_turn(posted)
        round_index = posted.envelope.round
        self._stand_ins.lost(posted.envelope.client, back_at=round_index + posted.message.steps)

    def _check_turn(self, posted: Posted) -> None:
        """Again for a message of a round that went on without its client, WireError if it is out of turn."""
        envelope = posted.envelope
        client, got = envelope.client, (envelope.round, envelope.lap)
        if self._absent.get(client, -1) >= envelope.round:
            raise RejoinRequired(f"round {envelope.round} has gone on without client {client}")
        ask = posted.message.ask if isinstance(posted.message, Control) else ""
        if ask in ("pass", "away") and (envelope.lap or got != self._expected.get(client)):
            raise WireError(f"client {client} cannot say {ask!r} in round {got[0]} at message {got[1]}")

    def _take_turn(self, posted: Posted, answer: Answer) -> None:
        gate, message, envelope = self._gate, posted.message, posted.envelope
        client, round_index, lap = envelope.client, envelope.round, envelope.lap
        self._check_turn(posted)
        position = self._admit(client, round_index, lap, alone=not isinstance(message, Activation))
        arrival = self._arrival(posted)
        if isinstance(message, Control) and message.ask == "begin":
            gate.begin(client, message.steps + 1)
        self._admitted(position, client, round_index, lap)
        ticket = Turn(client=client, round=round_index, lap=lap, position=position)
        is_late = arrival is None or self._late.get(client) == round_index
        outcome = self._desk.compute(ticket, posted, arrival) if arrival and not is_late else None
        gate.await_commit(position)
        if lap == 0 and client in self._back:
            self._desk.noted("back", round=round_index, client=client, kept=self._back.pop(client))
        answer(self._answer(posted, arrival, outcome))
        self._commit(ticket, outcome)

    def _admit(self, client: int, round_index: int, lap: int, *, alone: bool) -> int:
        """Again, not WireError, to one that has come again: what it said before may have taken the turn."""
        try:
            return self._gate.admit(client, round_index, lap, alone=alone)
        except WireError as error:
            if self._joined[client] > 1:
                raise RejoinRequired(str(error)) from None
            raise

    def _admitted(self, position: int, client: int, round_index: int, lap: int) -> None:
        is_last = lap + 1 == self._gate.laps(client)
        self._expected[client] = (round_index + 1, 0) if is_last else (round_index, lap + 1)
        self._gate.admitted(position)

    def _commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        gate, position = self._gate, ticket.position
        ends_round = gate.is_last(position)
        if ends_round:
            self._next = ticket.round + 1, position + 1
        self._desk.commit(ticket, outcome, ends_round=ends_round)
        if gate.is_last_begin(position):
            self._desk.begun(ticket.round)
        gate.committed(position, ends_round=ends_round)

    def _arrival(self, posted: Posted) -> Arrival | None:
        """The message at the server, on time or late; None for one that its round has no use for any more."""
        envelope = posted.envelope
        if self._late.get(envelope.client) == envelope.round:
            return None
        arrival = self._cross(self._desk.leaves(posted))
        if self._deadline_s and envelope.lap and arrival.at_s > self._desk.round_began_s + self._deadline_s:
            self._late[envelope.client] = envelope.round
        return arrival

    def _answer(self, posted: Posted, arrival: Arrival | None, outcome: ServerReply | None) -> bytes:
        """The frame that reaches the client: LOST where its message, or the answer, is lost on the air."""
        if arrival is None:
            return self._desk.unsaid(posted)
        if self._late.get(posted.envelope.client) == posted.envelope.round:
            return self._desk.late(posted, arrival, self._desk.round_began_s + self._deadline_s)
        if outcome is None:
            return self._desk.lost(posted, arrival)
        answering = self._desk.answer(posted, arrival, outcome)
        return self._desk.landed(answering, self._cross(answering.departure))

    def _cross(self, departure: Departure) -> Arrival:
        return crossed(departure, self._link.transfer(departure.transfer), self._power_w)
