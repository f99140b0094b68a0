"""A run's whole protocol with pieces that compute nothing: its bytes, times and memory beforehand.

The messages are those of the run itself, sent by the same methods over the same link, so
bytes, packets, airtime, energy and FLOPs are the ledger's own, to the byte. Where what is sent
depends on what was learnt or lost on a lossy link, it is one such run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Final

from channel.core.link import DIRECTIONS
from splitfl.accounting.ledger import Ledger
from splitfl.accounting.shape_only import ShapeOnlyPiece
from splitfl.adapters.inject import trainable
from splitfl.client.client import ClientNode
from splitfl.config import RunConfig
from splitfl.controller.controller import Controller, candidates, only
from splitfl.controller.cost_table import Memory, Option, Table
from splitfl.core.events import Events
from splitfl.core.messages import Plan
from splitfl.data.loader import Batches
from splitfl.methods.parts.method import ClientMethod
from splitfl.methods.registry import as_client, client_method, server_method
from splitfl.models.cut import Piece
from splitfl.runtime.simulate import run_inproc
from splitfl.server.assemble import server_loop_of
from splitfl.server.protocols import RoundEnd
from splitfl.setup.codecs import refuse_sizes_of_data
from splitfl.setup.experiment import Experiment, steps_of
from splitfl.setup.pieces import PieceLoader

_ROUNDS: Final = 2
"""What a plan is rehearsed for: what comes down as a round begins comes down from the second one on."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """What a run will have cost: all of its traffic and work, its virtual time, the clients' memory."""

    ledger: Ledger
    virtual_s: float
    clients: tuple[Memory, ...]

    @property
    def client(self) -> Memory:
        """Of the client that needs most."""
        return max(self.clients, key=lambda one: one.total_bytes)


def rehearse(site: Experiment, data: Sequence[Batches] = ()) -> DryRun:
    """Plays the run of these settings without weights; takes little time and trains nothing.

    `data` are the clients' batches, if there are some already. Raises ConfigError for a codec whose size
    depends on the data.
    """
    refuse_sizes_of_data(site.config)
    config, ledger, watcher = site.config, Ledger(), _Watcher()
    pieces, clients = list[_Pieces](), []
    for client in range(config.federation.clients):
        batches, its = data[client] if data else site.batches(client), as_client(config, client)
        pieces.append(_Pieces(site, its))
        clients.append(client_method(its, pieces[-1], batches, steps_of(config, client, batches)))
    with Events(None) as events:
        server = server_method(config, _Pieces(site, config))
        made = controller_for(config)
        controller = made(ledger, events) if made else None
        server_loop = server_loop_of(site, server, ledger, events, watcher, controller=controller)
        nodes = [ClientNode(at, client, codec=config.codec) for at, client in enumerate(clients)]
        run_inproc(config, nodes, server_loop)
    memory = tuple(
        _memory(own, client, config.train.accumulate) for own, client in zip(pieces, clients, strict=True)
    )
    return DryRun(ledger=ledger, virtual_s=watcher.finish_s, clients=memory)


def rehearsed(config: RunConfig, plans: Iterable[Plan], trial: Callable[[Plan], RunConfig]) -> Table:
    """For every client what a round by each plan costs, if all follow it; `trial` are its settings."""
    clients, last = range(config.federation.clients), _ROUNDS - 1
    found: list[list[Option]] = [[] for _ in clients]
    site, data = None, list[Batches]()
    for plan in plans:
        settings = trial(plan)
        two = replace(settings, federation=replace(settings.federation, rounds=_ROUNDS))
        site = site.with_settings(two) if site else Experiment.of(two)
        data = data or [site.batches(client) for client in clients]
        rehearsal = rehearse(site, data)
        for client, options in enumerate(found):
            options.append(
                Option(
                    plan=plan,
                    crosses={way: rehearsal.ledger.traffic[last, client, way] for way in DIRECTIONS},
                    client_flops=rehearsal.ledger.flops[last, "client", client],
                    server_flops=rehearsal.ledger.flops[last, "server", client],
                    memory=rehearsal.clients[client],
                )
            )
    return tuple(map(tuple, found))


MakeController = Callable[[Ledger, Events], Controller]


def controller_for(config: RunConfig) -> MakeController | None:
    """Makes the controller with a run's ledger and events, once each choice has had its dry run.

    None where nothing is chosen from round to round. Raises ConfigError where nothing can be chosen.
    """
    if not config.auto.every:
        return None
    table = table_of(config)
    return lambda ledger, events: Controller(config, ledger, events, table)


def table_of(config: RunConfig) -> Table:
    """What there is to choose from in a run that is planned from round to round; nothing in any other."""
    return options_of(config) if config.auto.every and len(candidates(config.auto)) > 1 else ()


def options_of(config: RunConfig) -> Table:
    """What each of the plans that the settings leave open costs each client, whatever it can hold."""
    federation = replace(config.federation, client_cuts=(), rounds=_ROUNDS)
    return _options_of(replace(config, federation=federation, auto=replace(config.auto, chosen=())))


@lru_cache(maxsize=4)  # asked for as a run is settled, and again as it begins
def _options_of(config: RunConfig) -> Table:
    return rehearsed(config, candidates(config.auto), partial(only, config))


def _memory(pieces: "_Pieces", client: ClientMethod, accumulate: int) -> Memory:
    held = {id(value): value for piece in pieces.made for value in piece.parameters()}.values()
    trained = sum(value.nbytes for piece in pieces.made for value in trainable(piece).values())
    moments = {name: value for name, value in client.state().items() if "moment." in name}
    saved = sum(piece.saved_bytes() for piece in pieces.made)
    is_summing = bool(moments) and accumulate > 1  # the sum so far beside the gradients of a batch
    return Memory(
        parameter_bytes=sum(value.nbytes for value in held),
        gradient_bytes=trained * (1 + is_summing) if saved or moments else 0,
        optimiser_bytes=sum(value.nbytes for value in moments.values()),
        saved_bytes=saved,
    )


class _Pieces:
    """The pieces of one side without their weights; remembers what was made."""

    def __init__(self, site: Experiment, config: RunConfig) -> None:
        self._real = PieceLoader(
            config=config, task=site.task, num_blocks=site.num_blocks, device="cpu", is_hollow=True
        )
        self.made: list[ShapeOnlyPiece] = []

    def head(self, cut: int | None = None, *, is_bare: bool = False) -> Piece:
        return self._kept(self._real.head(cut, is_bare=is_bare))

    def body(self, cut: int | None = None) -> Piece:
        return self._kept(self._real.body(cut))

    def tail(self) -> Piece:
        return self._kept(self._real.tail())

    def auxiliary(self) -> Piece:
        return self._kept(self._real.auxiliary())

    def whole(self) -> Piece:
        return self._kept(self._real.whole())

    def _kept(self, piece: Piece) -> Piece:
        self.made.append(ShapeOnlyPiece(piece))
        return self.made[-1]


class _Watcher:
    """Hears of a rehearsal."""

    finish_s = 0.0

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Watcher: nobody looks on."""

    def all_began(self, round_index: int) -> None:
        """See Watcher: nothing is kept."""

    def ended(self, end: RoundEnd) -> None:
        """See Watcher."""
        self.finish_s = end.finish_s
