"""Both sides of every method, made of the pieces that it asks for and of the settings."""

from torch import Tensor

from splitfl.adapters.inject import trainable
from splitfl.config import RunConfig
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import aggregator
from splitfl.federation.averager import Averager, Start, needs_start
from splitfl.federation.over_the_air import over_the_air
from splitfl.federation.server_optimiser import server_optimiser
from splitfl.methods.controlled import PlannedClient, PlannedServer
from splitfl.methods.cse_fsl import Backprop, CseClient, CseServer
from splitfl.methods.decomfl import DecomflClient, DecomflServer
from splitfl.methods.fedkseed import FedkseedServer, PoolWalk
from splitfl.methods.fedlora import FedClient, FedServer
from splitfl.methods.frozen import FrozenClient, FrozenServer
from splitfl.methods.fsl_sage import SageClient, SageServer
from splitfl.methods.heron import Feel
from splitfl.methods.hiso import HisoWalk
from splitfl.methods.hosl import HoslClient, HoslServer
from splitfl.methods.hybrid import HybridClient, HybridServer
from splitfl.methods.local_updates import ByAuxiliary, ByGradient, FrozenHead, LocalUpdate, ZerothOrder
from splitfl.methods.mu_splitfed import MuClient, MuServer
from splitfl.methods.parts.auxiliary import PREFIX, with_prefix
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod
from splitfl.methods.parts.parameter_slices import Slice
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, walk
from splitfl.methods.parts.plan import AUXILIARY
from splitfl.methods.parts.rates import decay
from splitfl.methods.parts.scalar_log import ScalarLog
from splitfl.methods.parts.server_model import ServerModel
from splitfl.methods.parts.split_pass import SplitPass
from splitfl.methods.parts.zeroth_order_client import ZerothOrderClient
from splitfl.methods.per_client_cut import UnevenServer, enters
from splitfl.methods.sfl_v1 import SflV1Server
from splitfl.methods.sfl_v2 import SflClient, SflServer
from splitfl.methods.spry import SpryClient
from splitfl.methods.ushape import UshapeClient, UshapeServer
from splitfl.models.cut import Piece, replica


def frozen_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return FrozenClient(pieces.head(is_bare=True), batches, steps)


def frozen_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    return FrozenServer(_body(pieces, config))


def sfl_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    if config.auto.every:
        return planned_client(pieces, batches, steps, config)
    return SflClient(_learner(pieces.head(), config), batches, steps, config.method)


def planned_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The head up to each cut that a plan may name, and a way to learn for each of the methods."""
    auto, settings, own = config.auto, config.method, config.partition.cut
    auxiliary = pieces.auxiliary() if AUXILIARY in auto.methods else None
    learner = _learner(pieces.head(), config, auxiliary, PREFIX)
    heads = {cut: enters(learner.piece, pieces.head(cut)) for cut in auto.cuts if cut < own}
    heads[own] = learner.piece
    rates = dict(zip(auto.methods, auto.head_lrs, strict=False))
    ways: dict[tuple[str, int], LocalUpdate] = {}
    for cut, head in heads.items():
        passes = SplitPass(learner, settings, head)
        for name in auto.methods:
            match name:
                case "sfl-v2":
                    ways[name, cut] = ByGradient(learner, passes)
                case "cse-fsl":
                    assert auxiliary is not None
                    learn = Backprop(learner, auxiliary, settings, head)
                    ways[name, cut] = ByAuxiliary(learn, settings.upload_interval)
                case "hybrid":
                    moving = walk(_values(head), config, rates.get(name))
                    walker = ZerothOrderClient(head, batches.client, settings, moving)
                    ways[name, cut] = ZerothOrder(learner, walker, moving)
                case "frozen":
                    ways[name, cut] = FrozenHead(passes)
    return PlannedClient(learner, heads, ways, rates, batches, steps)


def sfl_v2_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    cuts = config.federation.client_cuts
    if cuts:
        body, heads = _body(pieces, config), _heads(pieces, config)
        rule = aggregator(config.federation.aggregator)
        entered = {cut for cut in config.auto.cuts if cut <= max(cuts)} if config.auto.every else {*cuts}
        entries = {cut: enters(body.piece, pieces.body(cut)) for cut in sorted(entered)}
        if config.auto.every:
            held = _values(pieces.head(max(cuts)))
            if AUXILIARY in config.auto.methods:
                held |= with_prefix(_values(pieces.auxiliary()))
            start = {name: value.cpu().clone() for name, value in held.items()}
            return PlannedServer(body, entries, cuts, heads, rule, start)
        return UnevenServer(body, entries, cuts, heads, rule)
    return SflServer(_body(pieces, config), _heads(pieces, config))


def sfl_v1_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body, clients = pieces.body(), range(config.federation.clients)
    bodies = [ServerModel(replica(body), config.train, config.method.in_flight) for _ in clients]
    return SflV1Server(bodies, _heads(pieces, config), aggregator(config.federation.aggregator))


def ushape_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    tail = pieces.tail()
    return UshapeClient(_learner(pieces.head(), config, tail), tail, batches, steps, config.method)


def ushape_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body = ServerModel(pieces.body(), config.train, 1)
    replicas = [replica(body.piece) for _ in range(config.federation.clients)]
    return UshapeServer(body, replicas, _heads(pieces, config, with_tail=True))


def cse_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    auxiliary = pieces.auxiliary()
    learner = _learner(pieces.head(), config, auxiliary, PREFIX)
    interval = config.method.upload_interval
    return CseClient(learner, Backprop(learner, auxiliary, config.method), batches, steps, interval)


def cse_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    heads = _heads(pieces, config, with_auxiliary=True)
    return CseServer(_body(pieces, config), heads, config.method.upload_interval)


def heron_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    auxiliary = pieces.auxiliary()
    learner = _learner(pieces.head(), config, auxiliary, PREFIX)
    moving = walk(_values(learner.piece) | with_prefix(_values(auxiliary)), config)
    feel = Feel(learner, auxiliary, moving, batches.client, config.method)
    return CseClient(learner, feel, batches, steps, config.method.upload_interval)


def sage_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    learner = _learner(pieces.head(), config)
    return SageClient(learner, pieces.auxiliary(), batches, steps, config.method)


def sage_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body, clients = _body(pieces, config), config.federation.clients
    heads = _heads(pieces, config)
    return SageServer(body, heads, pieces.auxiliary(), clients, config.method, config.train.body_lr)


def mu_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    learner = _learner(pieces.head(), config)
    moving = walk(_values(learner.piece), config)
    return MuClient(learner, moving, batches, steps, config.method.mu)


def mu_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body, settings, train = pieces.body(), config.method, config.train
    moving = PerturbedParameters(
        _values(body), aggregator("mean"), train.seed, config.federation.clients, train.body_lr
    )
    heads = _heads(pieces, config)
    return MuServer(body, moving, heads, steps=settings.server_steps, mu=settings.mu, lr=train.body_lr)


def hybrid_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return HybridClient(_walker(pieces.head(), batches, config), batches, steps)


def hybrid_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    return HybridServer(_body(pieces, config), _history(pieces.head(), config))


def hosl_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return HoslClient(_walker(pieces.head(), batches, config), batches, steps, config.method.mu)


def hosl_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body, history = _body(pieces, config), _history(pieces.head(), config)
    return HoslServer(body, history, config.method.perturbations, config.method.mu)


def fedlora_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return FedClient(_learner(pieces.whole(), config), batches, steps, config.method)


def fed_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    return FedServer(_heads(pieces, config, is_whole=True))


def decomfl_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return DecomflClient(_walker(pieces.whole(), batches, config), batches, steps)


def decomfl_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    return DecomflServer(_history(pieces.whole(), config))


def hiso_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    whole = pieces.whole()
    walker = ZerothOrderClient(whole, batches.client, config.method, _hiso_walk(_values(whole), config))
    return DecomflClient(walker, batches, steps)


def hiso_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    start = {name: value.cpu() for name, value in _values(pieces.whole()).items()}
    return DecomflServer(_history_of(_hiso_walk(start, config), config))


def fedkseed_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    whole = pieces.whole()
    walker = ZerothOrderClient(whole, batches.client, config.method, _pool_walk(whole, config))
    return DecomflClient(walker, batches, steps)


def fedkseed_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    return FedkseedServer(_pool_walk(pieces.whole(), config), config.method.perturbations)


def spry_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    whole, train, clients = pieces.whole(), config.train, config.federation.clients
    values = _values(whole)
    own = Slice(aggregator(config.federation.aggregator), list(values), batches.client, clients)
    moving = PerturbedParameters(values, own, train.seed, clients, train.head_lr)
    learner = ClientTrainer(whole, own, train, decay=decay(config))
    return SpryClient(learner, moving, batches, steps, config.method.perturbations)


def _learner(piece: Piece, config: RunConfig, above: Piece | None = None, prefix: str = "") -> ClientTrainer:
    rule = aggregator(config.federation.aggregator)
    return ClientTrainer(piece, rule, config.train, above, prefix, decay(config))


def _body(pieces: Pieces, config: RunConfig) -> ServerModel:
    return ServerModel(pieces.body(), config.train, config.method.in_flight)


def _heads(
    pieces: Pieces,
    config: RunConfig,
    *,
    with_tail: bool = False,
    with_auxiliary: bool = False,
    is_whole: bool = False,
) -> ClientAdapters:
    """What the clients send in and are sent, and how it is put together."""
    federation, start = config.federation, Start()
    if needs_start(federation):
        own = _values(pieces.whole() if is_whole else pieces.head())
        tensors = dict(own)
        if with_tail:
            tensors |= _values(pieces.tail())
        if with_auxiliary:
            tensors |= with_prefix(_values(pieces.auxiliary()))
        ranked = (
            frozenset(name for name in own if ".lora_" in name) if federation.client_ranks else frozenset()
        )
        tensors = {name: value.cpu().clone() for name, value in tensors.items()}
        start = Start(tensors=tensors, ranked=ranked, ranks=federation.client_ranks)
    return ClientAdapters(config.method.name, Averager(federation, start, over_the_air(config)))


def _walker(piece: Piece, batches: Batches, config: RunConfig) -> ZerothOrderClient:
    return ZerothOrderClient(piece, batches.client, config.method, walk(_values(piece), config))


def _history(piece: Piece, config: RunConfig) -> ScalarLog:
    """From a piece as the clients first hold it; nothing but its trained tensors is kept."""
    return _history_of(walk({name: value.cpu() for name, value in _values(piece).items()}, config), config)


def _history_of(moving: PerturbedParameters, config: RunConfig) -> ScalarLog:
    clients, perturbations = config.federation.clients, config.method.perturbations
    return ScalarLog(config.method.name, moving, clients, perturbations)


def _hiso_walk(values: dict[str, Tensor], config: RunConfig) -> HisoWalk:
    federation, train = config.federation, config.train
    rule, smooth = aggregator(federation.aggregator), config.method.hessian_smooth
    moved_by = server_optimiser(federation.server_optimiser, federation.server_lr)
    lr, falls = train.head_lr, decay(config)
    return HisoWalk(values, rule, train.seed, federation.clients, lr, smooth, falls, moved_by)


def _pool_walk(piece: Piece, config: RunConfig) -> PoolWalk:
    moving = walk(_values(piece), config)
    return PoolWalk(moving, config.train.seed, config.method.pool, config.train.head_lr)


def _values(piece: Piece) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in trainable(piece).items()}
