"""The server's side where clients do not wait for each other: whoever is there first is served first.

First on the virtual clock, so that it is the same one on every road: a message is served once every client
has sent one (or has left), since whoever is answered later also sends later. A run has as many clients'
rounds in all as a synchronous one, and faster clients have more of them; after so many as there are clients
a round of the run is over and measured.
"""

from collections.abc import Callable
from dataclasses import dataclass

from channel.core.link import Link
from channel.core.rng import stream
from splitfl.config import RunConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import Control
from splitfl.federation.staleness import uploads_a_version
from splitfl.methods.parts.method import Turn
from splitfl.server.event_server import EventServer
from splitfl.server.exchange import Exchange, Posted
from splitfl.server.server_loop import Answer
from splitfl.server.virtual_clock import Arrival, Departure, crossed
from splitfl.wire import encode


@dataclass(frozen=True, kw_only=True, eq=False)
class _Pending:
    """A client's message until it is answered."""

    posted: Posted
    arrival: Arrival
    answer: Answer

    @property
    def order(self) -> tuple[float, bool, int]:
        """By arrival; of what comes at the same moment what ends a round's work before what begins one."""
        envelope = self.posted.envelope
        return self.arrival.at_s, envelope.lap == 0, envelope.client


class AsyncServer(EventServer[_Pending]):
    """A station for links that each client has to itself."""

    def __init__(
        self, desk: Exchange, link: Link, power_w: float, config: RunConfig, ready_s: Callable[[int], float]
    ) -> None:
        """`ready_s` says when a client heard its last answer."""
        federation = config.federation
        super().__init__(desk, federation.clients, "a run whose clients go at their own pace")
        self._link = link
        self._power_w = power_w
        self._seed = config.train.seed
        self._pause_s = federation.pause_s
        self._ready_s = ready_s
        self._quota = federation.clients * federation.rounds
        self._every = uploads_a_version(federation)
        self._laps: dict[int, int] = {}
        self._done = self._position = 0

    @property
    def _round(self) -> int:
        return self._done // self._clients

    def _take(self, posted: Posted, answer: Answer) -> None:
        if self._done == self._quota:
            answer(self._over(posted))
            return
        self._expect(posted)
        departure = self._desk.leaves(posted, self._rested_s(posted))
        arrival = self._cross(departure)
        self._pending[posted.envelope.client] = _Pending(posted=posted, arrival=arrival, answer=answer)

    def _expect(self, posted: Posted) -> None:
        """WireError for what is not this client's next message."""
        envelope, message = posted.envelope, posted.message
        client, got = envelope.client, (envelope.round, envelope.lap)
        begins = isinstance(message, Control) and message.ask == "begin"
        if client in self._pending or got != self._expected.get(client) or begins != (envelope.lap == 0):
            raise WireError(
                f"client {client} has no message {envelope.lap} in round {envelope.round}, or had it"
            )
        if isinstance(message, Control) and begins:
            self._laps[client] = message.steps + 1
        is_last = envelope.lap + 1 == self._laps[client]
        self._expected[client] = (envelope.round + 1, 0) if is_last else (envelope.round, envelope.lap + 1)

    def _rested_s(self, posted: Posted) -> float:
        """When a client that begins a round has rested."""
        envelope = posted.envelope
        if envelope.lap or not self._pause_s:
            return 0.0
        rest_s = stream(self._seed, "pause", envelope.client, envelope.round).exponential(self._pause_s)
        return self._ready_s(envelope.client) + float(rest_s)

    def _go_on(self) -> None:
        """Serves whoever is first, until somebody has to work who is not here."""
        while self._failure is None and self._pending and not self._owing():
            first = min(self._pending.values(), key=lambda one: one.order)
            del self._pending[first.posted.envelope.client]
            if self._done == self._quota:
                first.answer(self._over(first.posted))
            else:
                self._serve(first)

    def _serve(self, pending: _Pending) -> None:
        posted, envelope = pending.posted, pending.posted.envelope
        ticket = Turn(client=envelope.client, round=envelope.round, lap=envelope.lap, position=self._position)
        self._position += 1
        outcome = self._desk.compute(ticket, posted, pending.arrival)
        if outcome is None:
            frame = self._desk.lost(posted, pending.arrival)
        else:
            answering = self._desk.answer(posted, pending.arrival, outcome)
            frame = self._desk.landed(answering, self._cross(answering.departure))
        if outcome is not None and outcome.staleness is not None:
            self._desk.aged(ticket, outcome.staleness)
        self._desk.commit(ticket, outcome, ends_round=False)
        if envelope.lap + 1 == self._laps[envelope.client]:
            self._end_of_clients_round()
        pending.answer(frame)

    def _end_of_clients_round(self) -> None:
        """A version after so many of them, a round of the run after as many as there are clients."""
        self._done += 1
        is_over = self._done == self._quota
        if self._done % self._every == 0 or is_over:  # what is left at the end is not thrown away
            self._desk.merge(self._done // self._every)
        if self._done % self._clients == 0:
            self._desk.end(self._done // self._clients - 1)

    def _over(self, posted: Posted) -> bytes:
        """What a client hears after the run's last round, whatever it is at."""
        if posted.envelope.lap:
            return self._desk.unsaid(posted)
        return encode(Control(ask="over", round=posted.envelope.round), posted.envelope)

    def _cross(self, departure: Departure) -> Arrival:
        return crossed(departure, self._link.transfer(departure.transfer), self._power_w)
