"""All clients and the server in one process: the reference for all transports."""

from collections import deque
from collections.abc import Callable, Generator, Sequence, Set
from functools import partial

from splitfl.client.client import ClientNode
from splitfl.config import RunConfig
from splitfl.core.messages import Begin, Message, NotSelected, Reply, RunOver
from splitfl.federation.selection import Selection
from splitfl.federation.staleness import most_rounds
from splitfl.runtime.simulated_clients import Step, in_turn, threads
from splitfl.server.absences import Schedule
from splitfl.server.async_server import AsyncServer
from splitfl.server.cell_server import CellServer
from splitfl.server.server_loop import ServerLoop
from splitfl.server.service_order import Turns
from splitfl.server.sync_server import SyncServer
from splitfl.wire import Envelope, Frame, encode


def run_inproc(
    config: RunConfig,
    nodes: Sequence[ClientNode],
    server_loop: ServerLoop,
    first_round: int = 0,
    *,
    schedule: Schedule | None = None,
    on_round: Callable[[], None] = lambda: None,
    start: Callable[[Step], Step] | None = None,
) -> None:
    """Runs all rounds with the same frames as other transports: in service order, or concurrently in a cell.

    `schedule` has the absences of another run to replay, except in a cell. `on_round` is called before
    each round (before each message of a concurrent run) and may raise. `start` executes the clients' steps
    in a synchronous run, as in `SimulatedClients`; by default in this thread.
    """
    if isinstance(server_loop, CellServer | AsyncServer):
        _run_concurrently(config, nodes, server_loop, first_round, on_round)
        return
    assert isinstance(server_loop, SyncServer)
    took_part: set[int] = set()
    start, schedule = start or in_turn(config.client.threads), schedule or Schedule()
    for round_index in range(first_round, config.federation.rounds):
        on_round()
        took_part = _run_round(config, nodes, server_loop, round_index, schedule, took_part, start)
    for client, node in enumerate(nodes):
        server_loop.membership.left[client] = node.leave()


def _run_round(
    config: RunConfig,
    nodes: Sequence[ClientNode],
    server_loop: SyncServer,
    round_index: int,
    schedule: Schedule,
    took_part_before: Set[int],
    start: Callable[[Step], Step],
) -> set[int]:
    """Runs a round; returns the clients that took part in it.

    A client that is not selected costs no message; it saves its state if it took part in the round before.
    What a client computes between two messages starts with its reply, and is awaited at its turn.
    """
    turns, selection = Turns(config.train.seed, round_index, len(nodes), 0), Selection.of(config)
    resume: dict[int, Callable[[Reply], Message | None]] = {}
    pending: dict[int, Step] = {}

    def begin(client: int) -> Message:
        resume[client], first = nodes[client].begin(round_index)
        return first

    def take(client: int, frame: bytes) -> Message | None:
        return resume[client](nodes[client].reply(frame))

    for client in range(len(nodes)):
        if (client, round_index) in schedule.back:
            _rejoin(nodes[client], server_loop, schedule.back[client, round_index])
        if schedule.absent.get((client, round_index)) == 0:
            if (client, round_index - 1) not in schedule.absent:
                nodes[client].save_checkpoint(round_index)
        elif selection.takes_part(client, round_index):
            pending[client] = start(partial(begin, client))
        elif client in took_part_before:
            nodes[client].save_checkpoint(round_index)
    for client in range(len(nodes)):
        message = pending[client]() if client in pending else None
        turns.begin(client, message.steps + 1 if isinstance(message, Begin) else 1)
    answered: deque[tuple[int, bytes]] = deque()
    for client, lap in (*((client, 0) for client in range(len(nodes))), *turns.order()):
        if lap >= schedule.absent.get((client, round_index), lap + 1):
            with threads(config.server.threads):
                server_loop.membership.pass_turn(client)
        elif client not in pending:
            with threads(config.server.threads):
                server_loop.skip_round(client)
        else:
            message = pending[client]()
            assert message is not None, "a client announced more messages than it has"
            _post(config, nodes[client].frame(message), server_loop, client, answered)
        while answered:  # the messages that are served with this one
            one, frame = answered.popleft()
            pending[one] = start(partial(take, one, frame))
    for last in pending.values():
        last()
    return set(pending)


def _rejoin(node: ClientNode, server_loop: ServerLoop, completed: int) -> None:
    node.restore(completed + 1)
    node.references.restore({})  # its checkpoint was older than the round that it returns with
    server_loop.membership.joins(node.client, lambda _: completed)


def _run_concurrently(
    config: RunConfig,
    nodes: Sequence[ClientNode],
    server_loop: CellServer | AsyncServer,
    first_round: int,
    on_message: Callable[[], None],
) -> None:
    """Each client computes once it has its reply; virtual time advances after the last one has sent."""
    replies: deque[tuple[int, bytes]] = deque()

    def send(client: int, frame: bytes) -> None:
        on_message()
        _post(config, frame, server_loop, client, replies)

    generators = [_frames(config, node, first_round) for node in nodes]
    for client, generator in enumerate(generators):
        send(client, next(generator))
    while replies:
        client, reply = replies.popleft()
        try:
            with threads(config.client.threads):
                frame = generators[client].send(reply)
        except StopIteration:
            continue
        send(client, frame)


def _frames(config: RunConfig, node: ClientNode, first_round: int) -> Generator[bytes, bytes, None]:
    """All frames of a client from `first_round` on; resumed with those of the replies.

    A client saves its state after a round that it took part in.
    """
    selection, client, took_part = Selection.of(config), node.client, False
    for round_index in range(first_round, most_rounds(config.federation)):
        if not selection.takes_part(client, round_index):
            if took_part:
                node.save_checkpoint(round_index)
            yield encode(NotSelected(), Envelope(client=client, round=round_index, lap=0))
            took_part = False
            continue
        took_part = True
        resume, first = node.begin(round_index)
        pending: Message | None = first
        while pending is not None:
            reply = node.reply((yield node.frame(pending)))
            if isinstance(reply, RunOver):
                break
            pending = resume(reply)
    yield encode(node.leave(), Envelope(client=client, round=most_rounds(config.federation), lap=0))


def _post(
    config: RunConfig, frame: bytes, server_loop: ServerLoop, client: int, replies: deque[tuple[int, bytes]]
) -> None:
    """Has the server take a client's frame; frames of replies are appended to `replies`, now or later."""
    with threads(config.server.threads):
        server_loop.post(Frame(frame), lambda reply: replies.append((client, reply)))
