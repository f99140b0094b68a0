"""All clients and the server in one process and one thread: the road that the others must equal."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from splitfl.config import RunConfig
from splitfl.federation.turns import Turns
from splitfl.messages import Control, Message, Reply
from splitfl.node.client import ClientNode
from splitfl.node.station import Station


def run_inproc(config: RunConfig, nodes: list[ClientNode], station: Station) -> None:
    """Plays all rounds, every message in its turn through the same frames as elsewhere."""
    for round_index in range(config.federation.rounds):
        _play_round(config, nodes, station, round_index)
    for node in nodes:
        _exchange(config, node, station, Control(ask="leave", round=config.federation.rounds))


def _play_round(config: RunConfig, nodes: list[ClientNode], station: Station, round_index: int) -> None:
    turns = Turns(config.train.seed, round_index, len(nodes), 0)
    resume = {}
    pending: dict[int, Message | None] = {}
    for node in nodes:
        resume[node.client], message = node.begin(round_index)
        assert isinstance(message, Control), "a round starts with `begin`"
        turns.begin(node.client, message.steps + 1)
        pending[node.client] = message
    for client in (*range(len(nodes)), *(client for client, _ in turns.order())):
        message_now = pending[client]
        assert message_now is not None, "a client said that it had more to send than it has"
        reply = _exchange(config, nodes[client], station, message_now)
        with threads(config.client.threads):
            pending[client] = resume[client](reply)


def _exchange(config: RunConfig, node: ClientNode, station: Station, message: Message) -> Reply:
    replies: list[bytes] = []
    with threads(config.server.threads):
        station.handle(node.frame(message), replies.append)
    return node.reply(replies[0])


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Torch works with so many threads in here."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
