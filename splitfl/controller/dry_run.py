"""Dry runs: a run's protocol with shape-only pieces, for its bytes, times and memory in advance.

The messages are those of the run, sent by the same methods over the same link, so bytes, packets,
airtime, energy and FLOPs equal those of the run's ledger. If messages depend on trained values or
on random losses, it is one sample of such a run.
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
from splitfl.controller.controller import Controller, candidates, with_single_plan
from splitfl.controller.cost_table import ClientMemory, Option, Table
from splitfl.core.events import Events
from splitfl.core.messages import Plan
from splitfl.core.state import part
from splitfl.data.loader import Batches
from splitfl.methods.parts.method import ClientMethod
from splitfl.methods.registry import as_client, client_method, server_method
from splitfl.models.cut import Piece
from splitfl.runtime.simulate import run_inproc
from splitfl.server.assemble import server_loop_of
from splitfl.server.protocols import RoundEnd
from splitfl.setup.adapter_codec import encoded_client, encoded_server
from splitfl.setup.codecs import codecs_of_varying_size
from splitfl.setup.experiment import Experiment, steps_of
from splitfl.setup.pieces import PieceLoader

_DRY_ROUNDS: Final = 2
"""Rounds of a plan's dry run: parameters are sent down at the start of the second round and later."""


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The costs of a run: traffic and FLOPs, virtual time in seconds, and memory by client."""

    ledger: Ledger
    virtual_s: float
    clients: tuple[ClientMemory, ...]

    @property
    def client(self) -> ClientMemory:
        """The memory of the client that needs most."""
        return max(self.clients, key=lambda one: one.total_bytes)


def run_dry(experiment: Experiment, data: Sequence[Batches] = ()) -> DryRun:
    """Executes the experiment's protocol without weights, computation and training.

    `data` are the clients' batches, if already built. Bytes are an estimate where the size of a codec depends
    on values: those of a dry run are then normal, independent of each other and the same in every batch.
    """
    config, ledger, watcher = experiment.config, Ledger(), _Watcher()
    pieces, clients = list[_Pieces](), list[ClientMethod]()
    initial, is_estimate = partial(_Pieces, experiment), bool(codecs_of_varying_size(config))
    for client in range(config.federation.clients):
        batches, client_config = (
            data[client] if data else experiment.batches(client),
            as_client(config, client),
        )
        pieces.append(_Pieces(experiment, client_config))
        own = client_method(client_config, pieces[-1], batches, steps_of(config, client, batches))
        clients.append(encoded_client(own, client_config, initial(client_config), is_estimate=is_estimate))
    with Events(None) as events:
        server = encoded_server(
            server_method(config, _Pieces(experiment, config)), config, initial, is_estimate=is_estimate
        )
        made = controller_for(config)
        controller = made(ledger, events) if made else None
        server_loop = server_loop_of(experiment, server, ledger, events, watcher, controller=controller)
        nodes = [ClientNode(at, client, codec=config.codec) for at, client in enumerate(clients)]
        run_inproc(config, nodes, server_loop)
    memory = tuple(
        _memory(own, client, config.train.accumulate, node.references.nbytes)
        for own, client, node in zip(pieces, clients, nodes, strict=True)
    )
    return DryRun(ledger=ledger, virtual_s=watcher.finish_s, clients=memory)


def dry_run_table(config: RunConfig, plans: Iterable[Plan], trial: Callable[[Plan], RunConfig]) -> Table:
    """The costs of a round for every client, by plan, if all follow it; `trial` gives a plan's settings."""
    clients, last = range(config.federation.clients), _DRY_ROUNDS - 1
    found: list[list[Option]] = [[] for _ in clients]
    experiment, data = None, list[Batches]()
    for plan in plans:
        settings = trial(plan)
        two_rounds = replace(settings, federation=replace(settings.federation, rounds=_DRY_ROUNDS))
        experiment = experiment.with_settings(two_rounds) if experiment else Experiment.of(two_rounds)
        data = data or [experiment.batches(client) for client in clients]
        dry_run = run_dry(experiment, data)
        for client, options in enumerate(found):
            options.append(
                Option(
                    plan=plan,
                    crosses={
                        direction: dry_run.ledger.traffic[last, client, direction] for direction in DIRECTIONS
                    },
                    client_flops=dry_run.ledger.flops[last, "client", client],
                    server_flops=dry_run.ledger.flops[last, "server", client],
                    memory=dry_run.clients[client],
                )
            )
    return tuple(map(tuple, found))


MakeController = Callable[[Ledger, Events], Controller]


def controller_for(config: RunConfig) -> MakeController | None:
    """A function that makes a run's controller from ledger and events, after dry runs of all options.

    None without `auto.every`. Raises ConfigError if there is no option.
    """
    if not config.auto.every:
        return None
    table = table_of(config)
    return lambda ledger, events: Controller(config, ledger, events, table)


def table_of(config: RunConfig) -> Table:
    """The options of a run planned from round to round; empty for other runs."""
    return options_of(config) if config.auto.every and len(candidates(config.auto)) > 1 else ()


def options_of(config: RunConfig) -> Table:
    """The costs of all candidate plans for each client, regardless of client_config memory."""
    federation = replace(config.federation, client_cuts=(), rounds=_DRY_ROUNDS)
    return _options_of(replace(config, federation=federation, auto=replace(config.auto, chosen=())))


@lru_cache(maxsize=4)  # used when settings are resolved, and again when the run starts
def _options_of(config: RunConfig) -> Table:
    return dry_run_table(config, candidates(config.auto), partial(with_single_plan, config))


def _memory(pieces: "_Pieces", client: ClientMethod, accumulate: int, reference_bytes: int) -> ClientMemory:
    held = {id(value): value for piece in pieces.made for value in piece.parameters()}.values()
    trained = sum(value.nbytes for piece in pieces.made for value in trainable(piece).values())
    state = client.state()
    moments = {name: value for name, value in state.items() if "moment." in name}
    saved = sum(piece.saved_bytes() for piece in pieces.made)
    is_summing = bool(moments) and accumulate > 1  # the running sum beside the gradients of one batch
    return ClientMemory(
        parameter_bytes=sum(value.nbytes for value in held),
        gradient_bytes=trained * (1 + is_summing) if saved or moments else 0,
        optimiser_bytes=sum(value.nbytes for value in moments.values()),
        saved_bytes=saved,
        codec_bytes=sum(value.nbytes for value in part(state, "codec").values()) + reference_bytes,
    )


class _Pieces:
    """Shape-with_single_plan pieces of one side; records the pieces that it makes."""

    def __init__(self, experiment: Experiment, config: RunConfig) -> None:
        self._real = PieceLoader(
            config=config,
            task=experiment.task,
            num_blocks=experiment.num_blocks,
            device="cpu",
            is_shape_only=True,
        )
        self._is_noisy = bool(codecs_of_varying_size(config))
        self.made: list[ShapeOnlyPiece] = []

    def head(self, cut: int | None = None, *, is_bare: bool = False) -> Piece:
        return self._recorded(self._real.head(cut, is_bare=is_bare))

    def body(self, cut: int | None = None) -> Piece:
        return self._recorded(self._real.body(cut))

    def tail(self) -> Piece:
        return self._recorded(self._real.tail())

    def auxiliary(self) -> Piece:
        return self._recorded(self._real.auxiliary())

    def whole(self) -> Piece:
        return self._recorded(self._real.whole())

    def _recorded(self, piece: Piece) -> Piece:
        self.made.append(ShapeOnlyPiece(piece, is_noisy=self._is_noisy))
        return self.made[-1]


class _Watcher:
    """Records the virtual time at the end of a dry run."""

    finish_s = 0.0

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Watcher: no screen."""

    def all_began(self, round_index: int) -> None:
        """See Watcher: no checkpoint."""

    def ended(self, end: RoundEnd) -> None:
        """See Watcher."""
        self.finish_s = end.finish_s
