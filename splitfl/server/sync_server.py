"""The server of a synchronous run over links that each client has to itself.

Independent of the transport. `handle` may be called from one thread or from one per client; the service
order is the same in both cases. The delivery of a message is known as soon as it is sent.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from splitfl.core.errors import RejoinRequired, WireError
from splitfl.core.messages import Absent, Activation, Begin, Leave, Message, NotSelected
from splitfl.core.state import State, part, tensor_in, under
from splitfl.methods.parts.method import ServerReply, Turn
from splitfl.server.exchange import Exchange
from splitfl.server.membership import Membership
from splitfl.server.server_loop import Answer
from splitfl.server.service_order import ServiceOrder
from splitfl.server.virtual_clock import Crossing
from splitfl.transport.base.carrier import Carrier
from splitfl.wire import Envelope, Frame


@dataclass(frozen=True, kw_only=True, eq=False)
class _Served:
    """A message whose turn has come, until its group is served.

    `up` is None unless it is to be computed, `due_s` the end of the round for one that is late. `note` writes
    an event about its client. `answer` sends the reply at its virtual time; it is None for a client that
    waits for none.
    """

    turn: Turn
    up: Crossing | None = None
    due_s: float = 0.0
    note: Callable[[], None] | None = None
    answer: Callable[[ServerReply | None, float], None] | None = None


class SyncServer:
    """Serves messages in service order, and ends a round with its last turn.

    Messages of one group of the order are served together when the last one has come: a client that is
    absent, late or not heard makes the batch smaller.
    """

    def __init__(
        self,
        exchange: Exchange,
        carrier: Carrier,
        order: ServiceOrder,
        *,
        clients: int,
        rounds: int,
        min_clients: int = 1,
        deadline_s: float = 0.0,
    ) -> None:
        """A round starts with at least `min_clients` present.

        A message that arrives later than `deadline_s` of virtual time after its round's start is late,
        and the round is over for its client (0: no deadline).
        """
        self._exchange = exchange
        self._carrier = carrier
        self._order = order
        self._next = (0, 0)  # round, and position of its first message
        self._deadline_s = deadline_s
        self._group: list[_Served] = []  # of the messages that are served together, those that have come
        self.membership = Membership(clients, rounds, min_clients, self.pass_turn)

    def handle(self, frame: Frame, answer: Answer) -> None:
        """See ServerLoop."""
        self._take(frame, answer, waits=True)

    def post(self, frame: Frame, answer: Answer) -> None:
        """See ServerLoop."""
        self._take(frame, answer, waits=False)

    def fail(self, error: Exception) -> None:
        """See ServerLoop."""
        self._order.fail(error)
        self.membership.fail(error)

    def awaited(self) -> tuple[int, int] | None:
        """See ServerLoop."""
        position, client = self._order.awaited()
        is_holding = client is not None and self.membership.blocks_others(client)
        return (client, position) if client is not None and is_holding else None

    def ready(self) -> frozenset[int]:
        """See ServerLoop."""
        _, client = self._order.awaited()
        return self.membership.ahead_of(client) if client is not None else frozenset()

    def unfinished(self) -> tuple[int, frozenset[int]]:
        """See ServerLoop."""
        round_index = self._order.round_index
        return round_index, self.membership.unfinished(round_index)

    def state(self) -> State:
        """See ServerLoop."""
        return under("exchange", self._exchange.state()) | {"next": torch.tensor(self._next)}

    def restore(self, state: State) -> None:
        """See ServerLoop."""
        self._exchange.restore(part(state, "exchange"))
        round_index, position = tensor_in(state, "next").tolist()
        self._next = round_index, position
        self.membership.start_at(round_index)
        self._order.start_at(round_index, position)

    def pass_turn(self, client: int) -> None:
        """Waits for an absent client's next turn and passes it, like that of a lost message.

        The group that its turn completes is served here: an error ends every wait of the run.
        """
        state = self.membership[client]
        is_first = state.missed_round != state.round
        state.missed_round = state.round
        try:
            self._pass(client, is_noted=is_first)
        except Exception as error:
            self.fail(error)
            raise

    def _take(self, frame: Frame, answer: Answer, *, waits: bool) -> None:
        message, envelope, membership = self._exchange.read(frame), frame.envelope, self.membership
        match message:
            case Leave():
                answer(self._exchange.acknowledge(envelope))
                membership.left[envelope.client] = message  # the server may stop from here on
            case NotSelected():
                with membership.serving(envelope.client):
                    self._check_first(envelope, message)
                    self.skip_round(envelope.client)
                    answer(self._exchange.acknowledge(envelope))
            case Absent():
                with membership.serving(envelope.client):
                    self._check_first(envelope, message)
                    membership.lost(envelope.client, earliest=envelope.round + message.rounds)
                answer(self._exchange.acknowledge(envelope))
            case _:
                with membership.serving(envelope.client):
                    position = self._serve(frame, message, answer)
                    if waits:
                        self._order.await_commit(position + 1)

    def skip_round(self, client: int) -> None:
        """Passes the only turn of a client in a round for which it is not selected, as `NotSelected` does."""
        self._pass(client, is_noted=False)

    def _pass(self, client: int, *, is_noted: bool) -> None:
        state = self.membership[client]
        round_index, lap = state.round, state.lap
        position = self._order.admit(client, round_index, lap, alone=False)
        if lap == 0:
            self._order.begin(client, 1)
        note = partial(self._exchange.note, "absent", round=round_index, lap=lap, client=client)
        turn = Turn(client=client, round=round_index, lap=lap, position=position)
        self._join_group(_Served(turn=turn, note=note if is_noted else None))

    def _check_first(self, envelope: Envelope, message: Message) -> None:
        self._check_not_missed(envelope)
        place = envelope.round, envelope.lap
        if envelope.lap or place != self.membership.expected(envelope.client):
            kind = type(message).__name__
            raise WireError(
                f"client {envelope.client} cannot send {kind} in round {place[0]} at message {place[1]}"
            )

    def _check_not_missed(self, envelope: Envelope) -> None:
        membership, client = self.membership, envelope.client
        if membership.knows(client) and membership[client].missed_round >= envelope.round:
            raise RejoinRequired(f"round {envelope.round} continued without client {client}")

    def _serve(self, frame: Frame, message: Message, answer: Answer) -> int:
        """Takes one message in its turn: uplink, then its group; returns its position."""
        order, exchange, envelope = self._order, self._exchange, frame.envelope
        client, lap = envelope.client, envelope.lap
        self._check_not_missed(envelope)
        position = self._admit(envelope, alone=not isinstance(message, Activation))
        state = self.membership[client]
        is_over = state.late_round == envelope.round  # for this client, without further costs
        up = None if is_over else exchange.uplink(frame, message, self._carrier)
        due_s = exchange.round_began_s + self._deadline_s
        is_late = up is not None and bool(self._deadline_s and lap) and up.at_s > due_s
        if is_late:
            state.late_round = envelope.round
        if isinstance(message, Begin):
            order.begin(client, message.steps + 1)
        note = None
        if lap == 0 and state.restored_after is not None:
            kept, state.restored_after = state.restored_after, None
            note = partial(exchange.note, "back", round=envelope.round, client=client, kept=kept)

        def send(reply: ServerReply | None, done_s: float) -> None:
            if up is None:
                answer(exchange.lost_frame(envelope))
            elif is_late:
                answer(exchange.late(up, due_s))
            elif reply is None:
                answer(exchange.lost(up))
            else:
                answer(exchange.delivered(exchange.downlink(up, reply, done_s, self._carrier)))

        turn = Turn(client=client, round=envelope.round, lap=lap, position=position)
        if is_late:
            self._join_group(_Served(turn=turn, due_s=due_s, note=note, answer=send))
        else:
            self._join_group(_Served(turn=turn, up=up, note=note, answer=send))
        return position

    def _join_group(self, served: _Served) -> None:
        """Admits the next message; the last one of a group has the group served."""
        turn, order, group = served.turn, self._order, [*self._group, served]
        is_whole = order.is_last_of_group(turn.position)
        self._group = [] if is_whole else group
        self.membership.advance(turn.client, is_last=turn.lap + 1 == order.laps(turn.client))
        order.admitted(turn.position)  # from here on other threads may take the next message
        if is_whole:
            self._serve_group(group)

    def _serve_group(self, group: Sequence[_Served]) -> None:
        """Computes the messages together; replies to them and commits them in order."""
        exchange, turns, ups = self._exchange, [one.turn for one in group], [one.up for one in group]
        replies = exchange.compute(turns, ups)
        self._order.await_commit(turns[0].position)
        for one in group:
            if one.note is not None:
                one.note()
        done_s = exchange.serve(ups, replies, max(one.due_s for one in group))
        for one, reply in zip(group, replies, strict=True):
            if one.answer is not None:
                one.answer(reply, done_s)
            self._commit(one.turn, reply)

    def _admit(self, envelope: Envelope, *, alone: bool) -> int:
        """Waits for the turn; raises RejoinRequired, not WireError, for a rejoined client."""
        try:
            return self._order.admit(envelope.client, envelope.round, envelope.lap, alone=alone)
        except WireError as error:
            if self.membership.knows(envelope.client) and self.membership[envelope.client].joined > 1:
                raise RejoinRequired(str(error)) from None
            raise

    def _commit(self, turn: Turn, outcome: ServerReply | None) -> None:
        order, position = self._order, turn.position
        ends_round = order.is_last(position)
        if ends_round:
            self._next = turn.round + 1, position + 1
        self._exchange.commit(turn, outcome, ends_round=ends_round)
        if order.is_last_begin(position):
            self._exchange.all_began(turn.round)
        order.committed(position, ends_round=ends_round)
