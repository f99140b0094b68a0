"""The finetuning methods by name: one row each."""

from collections.abc import Mapping
from typing import Final

from torch import Tensor

from splitfl.adapters import trainable
from splitfl.config import RunConfig, one_of
from splitfl.data.loader import Batches
from splitfl.errors import ConfigError
from splitfl.federation.aggregate import aggregator
from splitfl.methods.auxiliary import PREFIX, refuse_auxiliary
from splitfl.methods.body import Body
from splitfl.methods.cse_fsl import CseClient, CseServer
from splitfl.methods.decomfl import DecomflClient, DecomflServer
from splitfl.methods.fedkseed import FedkseedServer, PoolWalk
from splitfl.methods.fedlora import FedClient, FedServer
from splitfl.methods.forward_mode import refuse_fused_attention
from splitfl.methods.frozen import FrozenClient, FrozenServer
from splitfl.methods.fsl_sage import SageClient, SageServer
from splitfl.methods.history import History
from splitfl.methods.hosl import HoslClient, HoslServer
from splitfl.methods.hybrid import HybridClient, HybridServer
from splitfl.methods.learner import Learner
from splitfl.methods.row import Method, optional
from splitfl.methods.seam import ClientMethod, Pieces, ServerMethod
from splitfl.methods.sfl_v1 import SflV1Server
from splitfl.methods.sfl_v2 import SflClient, SflServer
from splitfl.methods.spry import Slice, SpryClient
from splitfl.methods.ushape import UshapeClient, UshapeServer, refuse_no_tail
from splitfl.methods.walk import Walk, walk
from splitfl.methods.walker import Walker, refuse_estimate
from splitfl.partition.cut import Piece, replica


def check(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for settings that the method does not read, and for what it cannot work with."""
    chosen = method(config.method.name)
    for name, (got, default) in optional(config).items():
        if got != default and name not in chosen.reads:
            readers = ", ".join(other for other, row in METHODS.items() if name in row.reads) or "no method"
            raise ConfigError(
                f"the method {config.method.name!r} does not read {name}: leave it at {default!r}, got "
                f"{got!r}; it is read by {readers}"
            )
    chosen.refuse(config, kind, num_blocks)


def in_flight(config: RunConfig) -> int:
    """How many steps this method takes at the same time: as many as allowed, or one."""
    return config.method.in_flight if "method.in_flight" in method(config.method.name).reads else 1


def _learner(piece: Piece, config: RunConfig, above: Piece | None = None, prefix: str = "") -> Learner:
    return Learner(piece, aggregator(config.federation.aggregator), config.train, above, prefix)


def _body(pieces: Pieces, config: RunConfig) -> Body:
    return Body(pieces.body(), config.train, in_flight(config))


def _sfl_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return SflClient(_learner(pieces.head(), config), batches, steps)


def _sfl_v1_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body, clients = pieces.body(), range(config.federation.clients)
    bodies = [Body(replica(body), config.train, in_flight(config)) for _ in clients]
    return SflV1Server(bodies, aggregator(config.federation.aggregator))


def _ushape_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    tail = pieces.tail()
    return UshapeClient(_learner(pieces.head(), config, tail), tail, batches, steps)


def _ushape_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body = _body(pieces, config)
    return UshapeServer(body, [replica(body.piece) for _ in range(config.federation.clients)])


def _cse_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    auxiliary = pieces.auxiliary()
    learner = _learner(pieces.head(), config, auxiliary, PREFIX)
    return CseClient(learner, auxiliary, batches, steps, config.method.upload_interval)


def _sage_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    learner = _learner(pieces.head(), config)
    return SageClient(learner, pieces.auxiliary(), batches, steps, config.method.upload_interval)


def _sage_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body, clients = _body(pieces, config), config.federation.clients
    return SageServer(body, pieces.auxiliary(), clients, config.method, config.train.body_lr)


def _walker(piece: Piece, batches: Batches, config: RunConfig) -> Walker:
    return Walker(piece, batches.client, config.method, walk(_values(piece), config))


def _history(piece: Piece, config: RunConfig) -> History:
    """From a piece as the clients first hold it; nothing but its trained tensors is kept."""
    start = {name: value.cpu() for name, value in _values(piece).items()}
    clients, perturbations = config.federation.clients, config.method.perturbations
    return History(config.method.name, walk(start, config), clients, perturbations)


def _pool_walk(piece: Piece, config: RunConfig) -> PoolWalk:
    moving = walk(_values(piece), config)
    return PoolWalk(moving, config.train.seed, config.method.pool, config.train.head_lr)


def _values(piece: Piece) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in trainable(piece).items()}


def _hybrid_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return HybridClient(_walker(pieces.head(), batches, config), batches, steps)


def _hosl_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return HoslClient(_walker(pieces.head(), batches, config), batches, steps, config.method.mu)


def _hosl_server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    body, history = _body(pieces, config), _history(pieces.head(), config)
    return HoslServer(body, history, config.method.perturbations, config.method.mu)


def _decomfl_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    return DecomflClient(_walker(pieces.whole(), batches, config), batches, steps)


def _fedkseed_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    whole = pieces.whole()
    walker = Walker(whole, batches.client, config.method, _pool_walk(whole, config))
    return DecomflClient(walker, batches, steps)


def _spry_client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    whole, train, clients = pieces.whole(), config.train, config.federation.clients
    values = _values(whole)
    own = Slice(aggregator(config.federation.aggregator), list(values), batches.client, clients)
    moving = Walk(values, own, train.seed, clients, train.head_lr)
    return SpryClient(Learner(whole, own, train), moving, batches, steps, config.method.perturbations)


_ESTIMATE: Final = frozenset({"method.perturbations", "method.mu"})
_AUXILIARY: Final = frozenset({"method.in_flight", "method.auxiliary_blocks", "method.upload_interval"})

METHODS: Final[Mapping[str, Method]] = {
    "sfl-v2": Method(
        about="basic LoRA: activations up, gradients down, one shared body",
        client=_sfl_client,
        server=lambda pieces, config: SflServer(_body(pieces, config)),
        citations=("splitfed", "splitlora", "lora"),
        reads=frozenset({"method.in_flight"}),
    ),
    "sfl-v1": Method(
        about="as sfl-v2, with a body for each client on the server, averaged once a round",
        client=_sfl_client,
        server=_sfl_v1_server,
        citations=("splitfed", "lora"),
        reads=frozenset({"method.in_flight"}),
    ),
    "frozen": Method(
        about="the head never learns: each sample's activation goes up once, nothing comes down",
        client=lambda pieces, batches, steps, config: FrozenClient(pieces.head(), batches, steps),
        server=lambda pieces, config: FrozenServer(_body(pieces, config)),
        citations=("splitfrozen", "lora"),
        reads=frozenset({"method.in_flight"}),
    ),
    "ushape": Method(
        about="head and tail on the client, the body between them on the server: labels never leave",
        client=_ushape_client,
        server=_ushape_server,
        citations=("ushape", "lora"),
        reads=frozenset({"partition.tail_blocks"}),
        refuse=refuse_no_tail,
    ),
    "cse-fsl": Method(
        about="the client learns from an auxiliary's loss, the server from every q-th activation",
        client=_cse_client,
        server=lambda pieces, config: CseServer(_body(pieces, config), config.method.upload_interval),
        citations=("csefsl", "lora"),
        reads=_AUXILIARY,
        refuse=refuse_auxiliary,
    ),
    "fsl-sage": Method(
        about="as cse-fsl, with the auxiliary aligned to the server's gradients every l rounds",
        client=_sage_client,
        server=_sage_server,
        citations=("fslsage", "lora"),
        reads=_AUXILIARY | {"method.align_interval", "method.align_passes", "method.align_batches"},
        refuse=refuse_auxiliary,
    ),
    "hybrid": Method(
        about="Hybrid LoRA: first order on the server, forward passes on the client, scalars for weights",
        client=_hybrid_client,
        server=lambda pieces, config: HybridServer(_body(pieces, config), _history(pieces.head(), config)),
        citations=("hosfl", "lora"),
        reads=_ESTIMATE | {"method.derivative", "method.in_flight"},
        refuse=refuse_estimate,
    ),
    "hosl": Method(
        about="first order on the server, differences of its loss on the client: 2P+1 activations a step",
        client=_hosl_client,
        server=_hosl_server,
        citations=("hosl", "lora"),
        reads=_ESTIMATE | {"method.in_flight"},
        refuse=refuse_estimate,
    ),
    "fedlora": Method(
        about="no cut: clients finetune the whole model and send adapters (the reference)",
        client=lambda pieces, batches, steps, config: FedClient(
            _learner(pieces.whole(), config), batches, steps
        ),
        server=lambda pieces, config: FedServer("fedlora"),
        citations=("fedavg", "lora"),
    ),
    "decomfl": Method(
        about="no cut: clients find slopes of the whole model's loss, and scalars are all that travels",
        client=_decomfl_client,
        server=lambda pieces, config: DecomflServer(_history(pieces.whole(), config)),
        citations=("decomfl", "mezo", "lora"),
        reads=_ESTIMATE | {"method.derivative"},
        refuse=refuse_estimate,
    ),
    "fedkseed": Method(
        about="no cut: as decomfl along a pool of directions, so that one sum for each is the whole state",
        client=_fedkseed_client,
        server=lambda pieces, config: FedkseedServer(
            _pool_walk(pieces.whole(), config), config.method.perturbations
        ),
        citations=("fedkseed", "mezo", "lora"),
        reads=_ESTIMATE | {"method.derivative", "method.pool"},
        refuse=refuse_estimate,
    ),
    "spry": Method(
        about="no cut: forward mode on the client, each with a slice of the adapters",
        client=_spry_client,
        server=lambda pieces, config: FedServer("spry"),
        citations=("spry", "lora"),
        reads=frozenset({"method.perturbations"}),
        refuse=refuse_fused_attention,
    ),
}


def method(name: str) -> Method:
    """The method of this name; ConfigError, with the nearest, where there is none."""
    one_of("method.name", name, METHODS)
    return METHODS[name]
