"""All clients and the server in one process and thread: the reference for all transports."""

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager

import torch

from splitfl.client.client import ClientNode, is_over
from splitfl.config import RunConfig
from splitfl.core.messages import Absent, Begin, Leave, Message, Reply
from splitfl.federation.selection import Selection
from splitfl.federation.staleness import most_rounds
from splitfl.server.absences import Schedule
from splitfl.server.async_server import AsyncServer
from splitfl.server.cell_server import CellServer
from splitfl.server.server_loop import Answer, ServerLoop
from splitfl.server.service_order import Turns
from splitfl.wire import Frame


def run_inproc(
    config: RunConfig,
    nodes: list[ClientNode],
    server_loop: ServerLoop,
    first_round: int = 0,
    *,
    schedule: Schedule | None = None,
    on_round: Callable[[], None] = lambda: None,
) -> None:
    """Runs all rounds with the same frames as other transports: in service order, or concurrently in a cell.

    `schedule` has the absences of another run to replay, except in a cell. `on_round` is called before
    each round (before each message of a concurrent run) and may raise.
    """
    if isinstance(server_loop, CellServer | AsyncServer):
        _run_concurrently(config, nodes, server_loop, first_round, on_round)
        return
    for round_index in range(first_round, config.federation.rounds):
        on_round()
        _run_round(config, nodes, server_loop, round_index, schedule or Schedule())
    for node in nodes:
        _post(config, node, server_loop, Leave(), lambda frame: None)


def _run_round(
    config: RunConfig, nodes: list[ClientNode], server_loop: ServerLoop, round_index: int, schedule: Schedule
) -> None:
    turns, selection = Turns(config.train.seed, round_index, len(nodes), 0), Selection.of(config)
    resume: dict[int, Callable[[Reply], Message | None]] = {}
    pending: dict[int, Message | None] = {}
    for node in nodes:
        client = node.client
        if (client, round_index) in schedule.back:
            _rejoin(node, server_loop, schedule.back[client, round_index])
        if schedule.absent.get((client, round_index)) == 0:
            if (client, round_index - 1) not in schedule.absent:
                node.save_checkpoint(round_index)
            message: Message = Absent()
        elif selection.takes_part(client, round_index):
            resume[client], message = node.begin(round_index)
        else:
            message = node.skip_round(round_index)
        turns.begin(client, message.steps + 1 if isinstance(message, Begin) else 1)
        pending[client] = message
    replies: dict[int, list[bytes]] = {client: [] for client in range(len(nodes))}
    for client, lap in (*((client, 0) for client in range(len(nodes))), *turns.order()):
        if lap >= schedule.absent.get((client, round_index), lap + 1):
            with threads(config.server.threads):
                server_loop.membership.pass_turn(client)
        else:
            message_now = pending[client]
            assert message_now is not None, "a client announced more messages than it has"
            _post(config, nodes[client], server_loop, message_now, replies[client].append)
        for answered in [one for one, frames in replies.items() if frames]:  # those served with this one
            reply = nodes[answered].reply(replies[answered].pop())
            if answered in resume:
                with threads(config.client.threads):
                    pending[answered] = resume[answered](reply)


def _rejoin(node: ClientNode, server_loop: ServerLoop, completed: int) -> None:
    node.restore(completed + 1)
    node.references.restore({})  # its checkpoint was older than the round that it returns with
    server_loop.membership.joins(node.client, lambda _: completed)


def _run_concurrently(
    config: RunConfig,
    nodes: list[ClientNode],
    server_loop: CellServer | AsyncServer,
    first_round: int,
    on_message: Callable[[], None],
) -> None:
    """Each client computes once it has its reply; virtual time advances after the last one has sent."""
    replies: deque[tuple[int, bytes]] = deque()

    def send(client: int, message: Message) -> None:
        on_message()
        _post(config, nodes[client], server_loop, message, lambda frame: replies.append((client, frame)))

    generators = [_messages(config, node, first_round) for node in nodes]
    for client, generator in enumerate(generators):
        send(client, next(generator))
    while replies:
        client, frame = replies.popleft()
        reply = nodes[client].reply(frame)
        try:
            with threads(config.client.threads):
                message = generators[client].send(reply)
        except StopIteration:
            continue
        send(client, message)


def _messages(config: RunConfig, node: ClientNode, first_round: int) -> Generator[Message, Reply, None]:
    """All messages of a client from `first_round` on; resumed with replies."""
    for round_index in range(first_round, most_rounds(config.federation)):
        resume, first = node.begin(round_index)
        pending: Message | None = first
        while pending is not None:
            reply = yield pending
            if is_over(reply):
                break
            pending = resume(reply)
    yield Leave()


def _post(
    config: RunConfig, node: ClientNode, server_loop: ServerLoop, message: Message, answer: Answer
) -> None:
    with threads(config.server.threads):
        server_loop.post(Frame(node.frame(message)), answer)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sets torch's number of threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
