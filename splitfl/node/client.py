"""The client's side of every road: drives a method's generator over a connection."""

import logging
from collections.abc import Callable
from typing import Protocol

from splitfl.checkpoint import Shelf
from splitfl.errors import Again, ConfigError, PeerLost, RunEnded, WireError
from splitfl.messages import Control, Message, Reply
from splitfl.methods.seam import ClientMethod
from splitfl.state import State
from splitfl.wire import Envelope, Refusal, decode, encode

log = logging.getLogger(__name__)

JOIN_LAP = -1
"""The lap of the question with which round to go on, which is no part of any round."""


class Connection(Protocol):
    """One request, one reply, a timeout."""

    def request(self, frame: bytes) -> bytes:
        """The server's answer; Timeout or PeerLost where none comes."""


class ClientNode:
    """One client: its method and its count of messages."""

    def __init__(self, client: int, method: ClientMethod, shelf: Shelf | None = None) -> None:
        """What it is after each round is kept on `shelf`, if there is one."""
        self.client = client
        self._method = method
        self._shelf = shelf
        self._first = method.state()
        self._round = 0
        self._lap = 0

    def go_to(self, round_index: int) -> None:
        """Becomes what it was when this round began, or at the last time before that it has kept.

        What the federation has learnt since then the server tells it; what is lost are steps of its
        own optimiser.
        """
        state: State = self._first
        kept = [at for at in self._shelf.rounds() if at < round_index] if self._shelf is not None else []
        for at in reversed(kept):
            assert self._shelf is not None
            try:
                state = self._shelf.at(at).tensors
            except ConfigError as error:
                log.warning("client %d: %s", self.client, error)
                continue
            break
        self._method.restore(state)

    def begin(self, round_index: int) -> tuple[Callable[[Reply], Message | None], Message]:
        """Starts a round: what to resume it with a reply, and its first message."""
        if round_index and self._shelf is not None:
            self._shelf.put(round_index - 1, self._method.state(), {})
        generator = self._method.round(round_index)
        self._round, self._lap = round_index, -1

        def resume(reply: Reply) -> Message | None:
            try:
                return generator.send(reply)
            except StopIteration:
                return None

        return resume, next(generator)

    def join(self, connection: Connection) -> int:
        """Asks with which round this client goes on, and becomes what it was when that began."""
        self._round, self._lap = 0, JOIN_LAP
        envelope = Envelope(client=self.client, round=self._round, lap=self._lap)
        told = self.reply(connection.request(encode(Control(ask="join", round=0), envelope)))
        if not isinstance(told, Control) or told.ask != "join":
            raise WireError(f"client {self.client} asked where to go on and got {told!r:.60}")
        self.go_to(told.round)
        return told.round

    def frame(self, message: Message) -> bytes:
        """The next message of this round as it travels."""
        self._lap += 1
        envelope = Envelope(
            client=self.client, round=self._round, lap=self._lap, flops=self._method.take_flops()
        )
        return encode(message, envelope)

    def reply(self, frame: bytes) -> Reply:
        """The server's answer; PeerLost where it refuses, WireError where it is not one to us."""
        reply, envelope = decode(frame)
        if isinstance(reply, Refusal):
            raise (
                RunEnded(f"the server ended the run: {reply.reason}")
                if reply.is_final
                else Again(reply.reason)
            )
        if envelope.client != self.client or envelope.lap != self._lap:
            raise WireError(
                f"client {self.client} expected the answer to message {self._lap} and got client "
                f"{envelope.client}'s to message {envelope.lap}"
            )
        return reply


def run_client(
    node: ClientNode,
    connection: Connection,
    rounds: int,
    peak_bytes: Callable[[], dict[str, float]],
    on_step: Callable[[int, Message], None],
) -> None:
    """Takes part in a run of so many rounds from where the server says to its end, then takes leave."""
    while True:
        try:
            for round_index in range(node.join(connection), rounds):
                _take_part(node, connection, round_index, on_step)
            break
        except Again as why:
            log.info("client %d goes back: %s", node.client, why)
    leave = Control(ask="leave", round=rounds, values=peak_bytes())
    try:
        answer = connection.request(node.frame(leave))
    except PeerLost:
        return  # the last client's server may be gone before its answer is here
    node.reply(answer)


def _take_part(
    node: ClientNode, connection: Connection, round_index: int, on_step: Callable[[int, Message], None]
) -> None:
    resume, message = node.begin(round_index)
    pending: Message | None = message
    while pending is not None:
        reply = node.reply(connection.request(node.frame(pending)))
        on_step(round_index, pending)
        pending = resume(reply)
