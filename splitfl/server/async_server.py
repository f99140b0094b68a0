"""The server of a run whose clients do not wait for each other: the first to arrive is served first.

First on the virtual clock, so that the order is the same on every transport: a message is served once every
client has sent one (or has left), since a client that is answered later also sends later. A run has as many
client rounds in all as a synchronous one, and faster clients have more of them; after as many as there are
clients a round of the run is over and measured.
"""

from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush

from channel.core.rng import stream
from splitfl.config import RunConfig
from splitfl.core.messages import Begin, Message, RunOver
from splitfl.federation.staleness import uploads_a_version
from splitfl.methods.parts.method import Turn
from splitfl.server.event_server import EventServer
from splitfl.server.exchange import Exchange
from splitfl.server.server_loop import Answer
from splitfl.server.virtual_clock import Crossing
from splitfl.transport.base.carrier import Carrier
from splitfl.wire import Envelope, Frame, encode


@dataclass(frozen=True, kw_only=True, eq=False)
class _Arrival:
    """A client's message until its reply."""

    up: Crossing
    answer: Answer

    @property
    def order(self) -> tuple[float, bool, int]:
        """By arrival; at the same moment an upload before the start of a round."""
        envelope = self.up.envelope
        return self.up.at_s, envelope.lap == 0, envelope.client


class AsyncServer(EventServer[_Arrival]):
    """Serves clients in order of arrival, over a link for each client."""

    def __init__(
        self, exchange: Exchange, carrier: Carrier, config: RunConfig, ready_s: Callable[[int], float]
    ) -> None:
        """`ready_s` gives the virtual time at which a client received its last reply."""
        federation = config.federation
        super().__init__(exchange, federation.clients, "an asynchronous run")
        self._carrier = carrier
        self._seed = config.train.seed
        self._pause_s = federation.pause_s
        self._ready_s = ready_s
        self._quota = federation.clients * federation.rounds
        self._every = uploads_a_version(federation)
        self._laps: dict[int, int] = {}
        self._queue: list[tuple[tuple[float, bool, int], int]] = []  # of the pending messages
        self._done = self._position = 0

    @property
    def _round(self) -> int:
        return self._done // self._clients

    def _take(self, frame: Frame, message: Message, answer: Answer) -> None:
        envelope = frame.envelope
        if self._done == self._quota:
            answer(self._over(envelope))
            return
        self._check_expected(envelope, message)
        if isinstance(message, Begin):
            self._laps[envelope.client] = message.steps + 1
        self.membership.advance(envelope.client, is_last=self._is_last(envelope))
        up = self._exchange.uplink(frame, message, self._carrier, self._pause_end_s(envelope))
        arrival = self._pending[envelope.client] = _Arrival(up=up, answer=answer)
        heappush(self._queue, (arrival.order, envelope.client))

    def _is_last(self, envelope: Envelope) -> bool:
        return envelope.lap + 1 == self._laps[envelope.client]

    def _pause_end_s(self, envelope: Envelope) -> float:
        """The end of a client's pause before a round, in virtual seconds; 0 without one."""
        if envelope.lap or not self._pause_s:
            return 0.0
        rest_s = stream(self._seed, "pause", envelope.client, envelope.round).exponential(self._pause_s)
        return self._ready_s(envelope.client) + float(rest_s)

    def _run(self) -> None:
        """Serves messages by arrival, until a client has to compute."""
        while self._failure is None and self._pending and not self._is_waiting():
            first = self._pending.pop(heappop(self._queue)[1])
            if self._done == self._quota:
                first.answer(self._over(first.up.envelope))
            else:
                self._serve(first)

    def _serve(self, pending: _Arrival) -> None:
        up, envelope, exchange = pending.up, pending.up.envelope, self._exchange
        turn = Turn(client=envelope.client, round=envelope.round, lap=envelope.lap, position=self._position)
        self._position += 1
        (outcome,) = exchange.compute([turn], [up])
        done_s = exchange.serve([up], [outcome])
        if outcome is None:
            frame = exchange.lost(up)
        else:
            frame = exchange.delivered(exchange.downlink(up, outcome, done_s, self._carrier))
            if outcome.staleness is not None:
                exchange.aged(turn, outcome.staleness)
        exchange.commit(turn, outcome, ends_round=False)
        if self._is_last(envelope):
            self._end_client_round()
        pending.answer(frame)

    def _end_client_round(self) -> None:
        """Ends a client's round: merges a version after `_every`, ends a round after one per client."""
        self._done += 1
        is_over = self._done == self._quota
        if self._done % self._every == 0 or is_over:  # uploads left at the end are not dropped
            self._exchange.merge(self._done // self._every)
        if self._done % self._clients == 0:
            self._exchange.end(self._done // self._clients - 1)

    def _over(self, envelope: Envelope) -> bytes:
        """The reply to any message after the run's last round."""
        return self._exchange.lost_frame(envelope) if envelope.lap else encode(RunOver(), envelope)
