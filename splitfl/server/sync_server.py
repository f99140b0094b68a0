"""The server of a synchronous run over links that each client has to itself.

Independent of the transport. `handle` may be called from one thread or from one per client; the service
order is the same in both cases. The delivery of a message is known as soon as it is sent.
"""

import torch

from splitfl.core.errors import RejoinRequired, WireError
from splitfl.core.messages import Absent, Activation, Begin, Leave, Message, NotSelected
from splitfl.core.state import State, part, tensor_in, under
from splitfl.methods.parts.method import ServerReply, Turn
from splitfl.server.exchange import Exchange
from splitfl.server.membership import Membership
from splitfl.server.server_loop import Answer
from splitfl.server.service_order import ServiceOrder
from splitfl.transport.base.carrier import Carrier
from splitfl.wire import Envelope, Frame


class SyncServer:
    """Serves messages in service order, and ends a round with its last turn."""

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
        self.membership = Membership(clients, rounds, min_clients, self.pass_turn)

    def handle(self, frame: Frame, answer: Answer) -> None:
        """See ServerLoop."""
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
                    self._serve(frame, message, answer)

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
        """Waits for an absent client's next turn and passes it, like that of a lost message."""
        state = self.membership[client]
        is_first = state.missed_round != state.round
        state.missed_round = state.round
        self._pass(client, is_noted=is_first)

    def skip_round(self, client: int) -> None:
        """Passes the only turn of a client in a round for which it is not selected, as `NotSelected` does."""
        self._pass(client, is_noted=False)

    def _pass(self, client: int, *, is_noted: bool) -> None:
        state = self.membership[client]
        round_index, lap = state.round, state.lap
        position = self._order.admit(client, round_index, lap, alone=False)
        if lap == 0:
            self._order.begin(client, 1)
        self._admitted(position, client, lap)
        self._order.await_commit(position)
        if is_noted:
            self._exchange.note("absent", round=round_index, lap=lap, client=client)
        self._commit(Turn(client=client, round=round_index, lap=lap, position=position), None)

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

    def _serve(self, frame: Frame, message: Message, answer: Answer) -> None:
        """Serves one message: turn, uplink, computation, downlink, commit."""
        order, exchange, envelope = self._order, self._exchange, frame.envelope
        client, lap = envelope.client, envelope.lap
        self._check_not_missed(envelope)
        position = self._admit(envelope, alone=not isinstance(message, Activation))
        state = self.membership[client]
        turn = Turn(client=client, round=envelope.round, lap=lap, position=position)
        is_over = state.late_round == envelope.round  # for this client, without further costs
        up = None if is_over else exchange.uplink(frame, message, self._carrier)
        if up and self._deadline_s and lap and up.at_s > exchange.round_began_s + self._deadline_s:
            state.late_round = envelope.round
        if isinstance(message, Begin):
            order.begin(client, message.steps + 1)
        self._admitted(position, client, lap)
        is_late = state.late_round == envelope.round
        outcome = exchange.compute(turn, up) if up and not is_late else None
        order.await_commit(position)
        if lap == 0 and state.restored_after is not None:
            exchange.note("back", round=envelope.round, client=client, kept=state.restored_after)
            state.restored_after = None
        if up is None:
            answer(exchange.lost_frame(envelope))
        elif is_late:
            answer(exchange.late(up, exchange.round_began_s + self._deadline_s))
        elif outcome is None:
            answer(exchange.lost(up))
        else:
            answer(exchange.delivered(exchange.downlink(up, outcome, self._carrier)))
        self._commit(turn, outcome)

    def _admit(self, envelope: Envelope, *, alone: bool) -> int:
        """Waits for the turn; raises RejoinRequired, not WireError, for a rejoined client."""
        try:
            return self._order.admit(envelope.client, envelope.round, envelope.lap, alone=alone)
        except WireError as error:
            if self.membership.knows(envelope.client) and self.membership[envelope.client].joined > 1:
                raise RejoinRequired(str(error)) from None
            raise

    def _admitted(self, position: int, client: int, lap: int) -> None:
        self.membership.advance(client, is_last=lap + 1 == self._order.laps(client))
        self._order.admitted(position)

    def _commit(self, turn: Turn, outcome: ServerReply | None) -> None:
        order, position = self._order, turn.position
        ends_round = order.is_last(position)
        if ends_round:
            self._next = turn.round + 1, position + 1
        self._exchange.commit(turn, outcome, ends_round=ends_round)
        if order.is_last_begin(position):
            self._exchange.all_began(turn.round)
        order.committed(position, ends_round=ends_round)
