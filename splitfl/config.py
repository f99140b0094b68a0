"""One experiment, whole: frozen settings whose ranges are checked when they are made.

Every class below is a table of the TOML file, every field a key of it. A value outside
its range, an unknown table and an unknown key are errors that say what would be right.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from splitfl.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which model: an alias of `splitfl list models`, a hub name, or a local folder."""

    name: str = "minilm"
    dtype: str = "float32"
    attention: str = "sdpa"

    def __post_init__(self) -> None:
        one_of("model.dtype", self.dtype, ("float32", "bfloat16"))
        one_of("model.attention", self.attention, ("sdpa", "eager"))


@dataclass(frozen=True, kw_only=True)
class PartitionConfig:
    """Where the model is cut: the client's head holds the first `cut` blocks, and for the
    methods that have one its tail the last `tail_blocks` and all that is above them."""

    cut: int = 2
    tail_blocks: int = 0

    def __post_init__(self) -> None:
        at_least("partition.cut", self.cut, 1)
        at_least("partition.tail_blocks", self.tail_blocks, 0)


@dataclass(frozen=True, kw_only=True)
class LoraConfig:
    """One side's LoRA (Hu et al., ICLR'22): scale alpha / rank; no targets means the family's own."""

    rank: int = 8
    alpha: float = 16.0
    targets: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least("adapter rank", self.rank, 1)
        above("adapter alpha", self.alpha, 0.0)


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """What is trained: low-rank adapters on either side of the cut."""

    head: LoraConfig = field(default_factory=LoraConfig)
    body: LoraConfig = field(default_factory=LoraConfig)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """Which data: a name of `splitfl list tasks`, or a local file or folder in `data`.

    `bad_rows` says what a malformed row does: `refuse` the file, or `skip` and count.
    `max_length` is in tokens. `limit` keeps that many training samples (0: all of them).
    """

    name: str = "stdlib-topics"
    data: str = ""
    max_length: int = 64
    bad_rows: str = "refuse"
    limit: int = 0
    eval_limit: int = 0

    def __post_init__(self) -> None:
        at_least("task.max_length", self.max_length, 2)
        one_of("task.bad_rows", self.bad_rows, ("refuse", "skip"))
        at_least("task.limit", self.limit, 0)
        at_least("task.eval_limit", self.eval_limit, 0)


@dataclass(frozen=True, kw_only=True)
class FederationConfig:
    """Who holds which data, how long a round is, how the clients' work is put together.

    `local_steps` of 0 means one pass over the client's own data each round.
    `partition`: `natural` (by group: package, or whatever the task groups by), `iid`,
    or `dirichlet` with `dirichlet_alpha` (Hsu et al., 2019: smaller is more uneven).
    """

    clients: int = 3
    rounds: int = 6
    local_steps: int = 10
    partition: str = "natural"
    dirichlet_alpha: float = 0.5
    aggregator: str = "rolora"

    def __post_init__(self) -> None:
        at_least("federation.clients", self.clients, 1)
        at_least("federation.rounds", self.rounds, 1)
        at_least("federation.local_steps", self.local_steps, 0)
        one_of("federation.partition", self.partition, ("natural", "iid", "dirichlet"))
        above("federation.dirichlet_alpha", self.dirichlet_alpha, 0.0)


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """How they learn; what a method does not read must stay as it is here.

    At most `in_flight` steps are under way on the server at the same time, one where a
    method cannot take more: step i then starts from the server's parameters after step
    i - in_flight. An auxiliary has the model's
    last `auxiliary_blocks` blocks and what stands on them; with one, every
    `upload_interval`-th batch of a round goes up. It is aligned to the server's gradients
    every `align_interval` rounds, by `align_passes` over a client's last `align_batches`
    uploads.

    A client without backpropagation finds the loss's slope along `perturbations` directions
    a step: by a `difference` to where it stands, a `central` one, both over a distance of
    `mu` an element, or exactly, by forward mode (`jvp`). `pool` is how many directions there
    are in all, for a method that draws them from a pool.
    """

    name: str = "sfl-v2"
    in_flight: int = 1
    auxiliary_blocks: int = 0
    upload_interval: int = 1
    align_interval: int = 1
    align_passes: int = 5
    align_batches: int = 8
    perturbations: int = 4
    mu: float = 1e-3
    derivative: str = "difference"
    pool: int = 1024

    def __post_init__(self) -> None:
        at_least("method.in_flight", self.in_flight, 1)
        at_least("method.auxiliary_blocks", self.auxiliary_blocks, 0)
        at_least("method.upload_interval", self.upload_interval, 1)
        at_least("method.align_interval", self.align_interval, 1)
        at_least("method.align_passes", self.align_passes, 1)
        at_least("method.align_batches", self.align_batches, 1)
        at_least("method.perturbations", self.perturbations, 1)
        above("method.mu", self.mu, 0.0)
        at_least("method.pool", self.pool, 1)
        one_of("method.derivative", self.derivative, ("difference", "central", "jvp"))


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """AdamW on either side (Loshchilov & Hutter, ICLR'19), and the seed of everything."""

    batch_size: int = 16
    head_lr: float = 1e-3
    body_lr: float = 1e-3
    weight_decay: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        at_least("train.batch_size", self.batch_size, 1)
        above("train.head_lr", self.head_lr, 0.0)
        above("train.body_lr", self.body_lr, 0.0)
        at_least("train.weight_decay", self.weight_decay, 0.0)
        at_least("train.seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class WayConfig:
    """One direction of the link. At a `rate_bps` of 0 sending takes no time; delay and losses remain."""

    rate_bps: float = 0.0
    delay_s: float = 0.0
    loss_rate: float = 0.0

    def __post_init__(self) -> None:
        at_least("link rate_bps", self.rate_bps, 0.0)
        at_least("link delay_s", self.delay_s, 0.0)
        if not 0.0 <= self.loss_rate < 1.0:
            raise ConfigError(f"link loss_rate must lie in [0, 1), got {self.loss_rate}")


@dataclass(frozen=True, kw_only=True)
class LinkConfig:
    """The emulated radio link of every client: packets of `mtu_bytes`, each sent at most
    `max_tries` times (0: until it arrives), an answer to each after `retry_s`."""

    mtu_bytes: int = 1500
    max_tries: int = 0
    retry_s: float = 0.008
    up: WayConfig = field(default_factory=WayConfig)
    down: WayConfig = field(default_factory=WayConfig)

    def __post_init__(self) -> None:
        at_least("link.mtu_bytes", self.mtu_bytes, 64)
        at_least("link.max_tries", self.max_tries, 0)
        at_least("link.retry_s", self.retry_s, 0.0)


@dataclass(frozen=True, kw_only=True)
class DeviceConfig:
    """One side's processor: `auto` is CUDA where there is one. `flops` is the rate, in
    floating-point operations a second, by which the virtual clock turns work into time."""

    device: str = "auto"
    threads: int = 1
    flops: float = 5e10

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device must be auto, cpu or cuda[:N], got {self.device!r}")
        at_least("threads", self.threads, 1)
        above("flops", self.flops, 0.0)


@dataclass(frozen=True, kw_only=True)
class TransportConfig:
    """How messages travel: `inproc` (one process) or `rpc` (PyTorch RPC, closed networks only).

    The server listens on `host`:`port` (0: any free one). It waits `join_timeout_s` for
    its clients to come; after that, whoever is silent for `timeout_s` is lost.
    """

    name: str = "rpc"
    host: str = "127.0.0.1"
    port: int = 0
    timeout_s: float = 30.0
    join_timeout_s: float = 300.0

    def __post_init__(self) -> None:
        one_of("transport.name", self.name, ("inproc", "rpc"))
        at_least("transport.port", self.port, 0)
        if self.port > 65535:
            raise ConfigError(f"transport.port must be at most 65535, got {self.port}")
        above("transport.timeout_s", self.timeout_s, 0.0)
        above("transport.join_timeout_s", self.join_timeout_s, 0.0)


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How often the whole model is measured on the held-out data: every so many rounds (0: never)."""

    every: int = 1
    batch_size: int = 64

    def __post_init__(self) -> None:
        at_least("eval.every", self.every, 0)
        at_least("eval.batch_size", self.batch_size, 1)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole experiment."""

    model: ModelConfig = field(default_factory=ModelConfig)
    partition: PartitionConfig = field(default_factory=PartitionConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    task: TaskConfig = field(default_factory=TaskConfig)
    federation: FederationConfig = field(default_factory=FederationConfig)
    method: MethodConfig = field(default_factory=MethodConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    link: LinkConfig = field(default_factory=LinkConfig)
    client: DeviceConfig = field(default_factory=DeviceConfig)
    server: DeviceConfig = field(default_factory=lambda: DeviceConfig(flops=5e11))
    transport: TransportConfig = field(default_factory=TransportConfig)
    eval: EvalConfig = field(default_factory=EvalConfig)


def one_of(name: str, got: str, allowed: Iterable[str]) -> None:
    """Refuses a word that is not among those allowed, suggesting the nearest."""
    allowed = sorted(allowed)
    if got not in allowed:
        raise ConfigError(f"unknown {name} {got!r};{nearest(got, allowed)} have {', '.join(allowed)}")


def nearest(got: str, allowed: Iterable[str]) -> str:
    """` did you mean 'x'?` where something is close enough or begins like that, else nothing."""
    close = difflib.get_close_matches(got, list(allowed), n=1)
    close += [name for name in allowed if len(got) > 1 and name.startswith(got)]
    return f" did you mean {close[0]!r}?" if close else ""


def at_least(name: str, got: float, least: float) -> None:
    """Refuses a number below `least`, and one that is not a number."""
    if not got >= least or got == float("inf"):
        raise ConfigError(f"{name} must be at least {least}, got {got}")


def above(name: str, got: float, bound: float) -> None:
    """Refuses a number that is not above `bound`, and one that is not a number."""
    if not got > bound or got == float("inf"):
        raise ConfigError(f"{name} must be above {bound}, got {got}")
