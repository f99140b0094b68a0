"""The rounds of one client over a connection: joins, takes part, rejoins, leaves."""

import logging
from collections.abc import Callable, Mapping

from splitfl.client.client import ClientNode, Connection
from splitfl.core.errors import PeerLost, RejoinRequired
from splitfl.core.messages import Leave, Message, RunOver

log = logging.getLogger(__name__)


def run_client(
    node: ClientNode,
    connection: Connection,
    rounds: int,
    leave: Callable[[], Leave],
    on_step: Callable[[int, Message], None],
    takes_part: Callable[[int], bool] = lambda round_index: True,
    leaves: Mapping[int, int] | None = None,
) -> None:
    """Joins a run of `rounds` rounds, runs it to its end and leaves; rejoins if the server requires it.

    `takes_part` is whether the client is selected for a round; `leaves` maps a round to the number of
    rounds of absence that start with it.
    """
    is_invited = False
    while True:
        try:
            for round_index in range(node.join(connection, is_invited=is_invited), rounds):
                if leaves and round_index in leaves:
                    message = node.announce_absence(round_index, leaves[round_index])
                    node.reply(connection.request(node.frame(message)))
                    is_invited = True
                    break
                if takes_part(round_index):
                    _run_round(node, connection, round_index, on_step)
                else:
                    node.reply(connection.request(node.frame(node.skip_round(round_index))))
            else:
                break
        except _RunOver:
            break
        except RejoinRequired as reason:
            is_invited = True
            log.info("client %d rejoins: %s", node.client, reason)
    try:
        answer = connection.request(node.frame(leave()))
    except PeerLost:
        return  # the server may exit before its last reply arrives
    node.reply(answer)


def _run_round(
    node: ClientNode, connection: Connection, round_index: int, on_step: Callable[[int, Message], None]
) -> None:
    resume, message = node.begin(round_index)
    pending: Message | None = message
    while pending is not None:
        reply = node.reply(connection.request(node.frame(pending)))
        if isinstance(reply, RunOver):
            raise _RunOver
        on_step(round_index, pending)
        pending = resume(reply)


class _RunOver(Exception):
    """The run has no further round."""
