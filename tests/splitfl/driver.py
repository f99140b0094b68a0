"""Plays a run in this process, without a folder of its own, over any link that a test brings along."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from torch import Tensor

from channel.core.link import Link
from splitfl.accounting.ledger import Ledger
from splitfl.client.client import ClientNode
from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.core.events import Events
from splitfl.core.messages import Message, Reply
from splitfl.methods.parts.method import ClientMethod, ServerMethod
from splitfl.runtime.simulate import run_inproc
from splitfl.server.assemble import server_loop_of
from splitfl.server.protocols import RoundEnd
from splitfl.setup.experiment import Experiment
from splitfl.setup.shared_clients import SharedClients
from splitfl.transport.base.carrier import Carrier


class ListeningNode(ClientNode):
    """A client that writes down what it says and hears, and the frames of either."""

    def __init__(
        self,
        client: int,
        method: ClientMethod,
        config: RunConfig,
        said: list[tuple[int, int, Message, Reply]],
    ) -> None:
        is_measured = config.auto.speed == "measured"
        super().__init__(client, method, codec=config.codec, reports_speed=is_measured)
        self._said = said
        self.sent: list[bytes] = []
        self.received: list[bytes] = []

    def frame(self, message: Message) -> bytes:
        self._pending = message
        self.sent.append(super().frame(message))
        return self.sent[-1]

    def reply(self, frame: bytes) -> Reply:
        self.received.append(frame)
        reply = super().reply(frame)
        self._said.append((self.client, self._round, self._pending, reply))
        return reply


@dataclass(frozen=True, kw_only=True, eq=False)
class Played:
    """What a run has come to; `said` is every message with its sender, round and answer, in order."""

    server: ServerMethod
    ledger: Ledger
    events: list[dict[str, Any]]
    ends: list[RoundEnd]
    said: list[tuple[int, int, Message, Reply]]
    nodes: list[ListeningNode]

    def rows(self, event: str) -> list[dict[str, Any]]:
        """The events of one kind."""
        return [row for row in self.events if row["event"] == event]

    @property
    def losses(self) -> list[float]:
        """Every step's loss, in order."""
        return [row["loss"] for row in self.rows("step")]

    @property
    def trained(self) -> dict[str, Tensor]:
        """The trained tensors that the server knows."""
        return dict(self.server.trained())


class _Watcher:
    def __init__(self) -> None:
        self.ends: list[RoundEnd] = []

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        pass

    def all_began(self, round_index: int) -> None:
        pass

    def ended(self, end: RoundEnd) -> None:
        self.ends.append(end)


def play(
    site: Experiment,
    folder: Path,
    link: Link | None = None,
    carrier: Carrier | None = None,
    *,
    is_shared: bool = False,
) -> Played:
    """The run of these settings; `folder` takes its events, `is_shared` lets clients share their modules."""
    config, watcher, ledger = site.config, _Watcher(), Ledger()
    method = SharedClients(site).method if is_shared else site.client_method
    said: list[tuple[int, int, Message, Reply]] = []
    path = folder / "played.jsonl"
    path.unlink(missing_ok=True)
    with Events(path) as events:
        server = site.server_method()
        made = controller_for(site.config)
        controller = made(ledger, events) if made else None
        server_loop = server_loop_of(site, server, ledger, events, watcher, link, controller, carrier)
        nodes = [
            ListeningNode(client, method(client), config, said) for client in range(config.federation.clients)
        ]
        run_inproc(config, nodes, server_loop)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return Played(server=server, ledger=ledger, events=lines, ends=watcher.ends, said=said, nodes=nodes)


@lru_cache(maxsize=32)
def play_once(config: RunConfig, folder: Path) -> Played:
    """The run of these settings over their own link, shared by tests that only look at it.

    `folder` is one that these tests share too, such as their module's.
    """
    return play(Experiment.of(config), folder)
