"""The client's side of every road: drives a method's generator over a connection."""

from collections.abc import Callable
from typing import Protocol

from splitfl.errors import PeerLost, WireError
from splitfl.messages import Control, Message, Reply
from splitfl.methods.seam import ClientMethod
from splitfl.wire import Envelope, Refusal, decode, encode


class Connection(Protocol):
    """One request, one reply, a timeout."""

    def request(self, frame: bytes) -> bytes:
        """The server's answer; Timeout or PeerLost where none comes."""


class ClientNode:
    """One client: its method and its count of messages."""

    def __init__(self, client: int, method: ClientMethod) -> None:
        self.client = client
        self._method = method
        self._round = 0
        self._lap = 0

    def begin(self, round_index: int) -> tuple[Callable[[Reply], Message | None], Message]:
        """Starts a round: what to resume it with a reply, and its first message."""
        generator = self._method.round(round_index)
        self._round, self._lap = round_index, -1

        def resume(reply: Reply) -> Message | None:
            try:
                return generator.send(reply)
            except StopIteration:
                return None

        return resume, next(generator)

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
            raise PeerLost(f"the server ended the run: {reply.reason}")
        if envelope.client != self.client or envelope.lap != self._lap:
            raise WireError(
                f"client {self.client} expected the answer to message {self._lap} and got client "
                f"{envelope.client}'s to message {envelope.lap}"
            )
        return reply


def run_client(
    node: ClientNode,
    connection: Connection,
    rounds: range,
    peak_bytes: Callable[[], dict[str, float]],
    on_step: Callable[[int, Message], None],
) -> None:
    """Takes part in all these rounds, then takes leave."""
    for round_index in rounds:
        resume, message = node.begin(round_index)
        pending: Message | None = message
        while pending is not None:
            reply = node.reply(connection.request(node.frame(pending)))
            on_step(round_index, pending)
            pending = resume(reply)
    leave = Control(ask="leave", round=rounds.stop, values=peak_bytes())
    try:
        answer = connection.request(node.frame(leave))
    except PeerLost:
        return  # the last client's server may be gone before its answer is here
    node.reply(answer)
