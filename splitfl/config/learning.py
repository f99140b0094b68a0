"""How they learn, and how often what was learnt is measured."""

from dataclasses import dataclass

from splitfl.config.checks import above, at_least, one_of
from splitfl.config.codec import check_codec
from splitfl.core.errors import ConfigError


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
    `mu` an element, or exactly, by forward mode (`jvp`). With `slices` these directions are of the client's
    own share of the adapted modules, another in every round: a better estimate of fewer parameters, each of
    which then moves by one client's weight alone. `pool` is how many directions there
    are in all, for a method that draws them from a pool. `hessian_smooth` is how slowly a
    curvature changes (1: never), `server_steps` how many steps a server takes for one of a client.

    A client with backpropagation holds less for it with `checkpoint_head`, which computes
    each of its blocks once more on the way back, and by taking `micro_batch` samples at a time
    (0: the whole batch).
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
    slices: bool = False
    pool: int = 1024
    hessian_smooth: float = 0.95
    server_steps: int = 1
    checkpoint_head: bool = False
    micro_batch: int = 0

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
        above("method.hessian_smooth", self.hessian_smooth, 0.0)
        if not self.hessian_smooth <= 1.0:
            raise ConfigError(f"method.hessian_smooth must be at most 1.0, got {self.hessian_smooth}")
        at_least("method.server_steps", self.server_steps, 1)
        at_least("method.micro_batch", self.micro_batch, 0)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """AdamW on either side (Loshchilov & Hutter, ICLR'19), and the seed of everything.

    A step has `batch_size` samples. `head_lr` and `body_lr` are the learning rates of the clients and of the
    server, `weight_decay` is that of both. Data order, initial values, turns and losses follow from `seed`.

    The clients' learning rates stay as they are (`constant`), or fall from round to round towards zero,
    in a straight line (`linear`) or as half a `cosine` does (Loshchilov & Hutter, ICLR'17, equation 5,
    without restarts). A training or held-out loss above `max_loss`, or that is no number,
    ends the run.
    """

    batch_size: int = 16
    head_lr: float = 1e-3
    head_schedule: str = "constant"
    body_lr: float = 1e-3
    weight_decay: float = 0.0
    max_loss: float = 1e4
    seed: int = 0

    def __post_init__(self) -> None:
        at_least("train.batch_size", self.batch_size, 1)
        above("train.head_lr", self.head_lr, 0.0)
        one_of("train.head_schedule", self.head_schedule, ("constant", "linear", "cosine"))
        above("train.body_lr", self.body_lr, 0.0)
        at_least("train.weight_decay", self.weight_decay, 0.0)
        above("train.max_loss", self.max_loss, 0.0)
        at_least("train.seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class AutoConfig:
    """What is left to the controller: a method, a cut, a rank and a codec for each client.

    A client may spend at most `limit` of the `budget` (`seconds` on the virtual clock, `bytes` both ways,
    `joules` radiated; `none`: nothing is left to it) in a round, and hold `client_memory_bytes`, one number
    for each (none: there is no limit). Of `methods`, `cuts`, `ranks` and `codecs` (of activations and
    gradients) it takes, among what fits, the first method that is named, of its options the first codec,
    then the largest rank, then the cut whose round is over soonest; where none are named, the run's stays.

    With `every` 0 it chooses once, before the run begins. Else it does for a first time, and again after
    every so many rounds: what they cost corrects what the next ones are expected to, and what they left of
    the budget, or took beyond it, is the next ones' to spend, or to save. That is for `sfl-v2`, whose clients
    may learn for a while as those of `cse-fsl` or `hybrid` do, or stand still as those of `frozen`: a head
    learns at the rate of `head_lrs` by each of `methods` (none: `train.head_lr`). The work of a client takes
    what `client.flops` or `federation.client_flops` say, or, where its `speed` is `measured`, its FLOPs over
    the time they took it. `chosen` are the controller's reasons, which it writes itself.
    """

    budget: str = "none"
    limit: float = 0.0
    every: int = 0
    methods: tuple[str, ...] = ()
    head_lrs: tuple[float, ...] = ()
    cuts: tuple[int, ...] = ()
    ranks: tuple[int, ...] = ()
    codecs: tuple[str, ...] = ()
    client_memory_bytes: tuple[int, ...] = ()
    speed: str = "declared"
    chosen: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        one_of("auto.budget", self.budget, ("none", "seconds", "bytes", "joules"))
        at_least("auto.limit", self.limit, 0.0)
        at_least("auto.every", self.every, 0)
        for rate in self.head_lrs:
            above("auto.head_lrs", rate, 0.0)
        if self.head_lrs and (not self.every or len(self.head_lrs) != len(self.methods)):
            raise ConfigError(
                f"auto.head_lrs must name a rate for each of the {len(self.methods)} auto.methods, with "
                f"auto.every of at least 1; got {len(self.head_lrs)}"
            )
        for number in self.cuts:
            at_least("auto.cuts", number, 1)
        for number in self.ranks:
            at_least("auto.ranks", number, 1)
        for name in self.codecs:
            check_codec("auto.codecs", name)
        for most in self.client_memory_bytes:
            at_least("auto.client_memory_bytes", most, 1)
        one_of("auto.speed", self.speed, ("declared", "measured"))
        if self.budget != "none":
            above("auto.limit", self.limit, 0.0)
            if not (self.methods or self.cuts or self.ranks or self.codecs):
                raise ConfigError("auto.budget leaves nothing to choose: name methods, cuts, ranks or codecs")
        elif self.every:
            raise ConfigError("auto.every needs an auto.budget: seconds, bytes or joules, got 'none'")
        if self.speed == "measured" and not self.every:
            raise ConfigError("auto.speed is measured while a run goes on: it needs auto.every of at least 1")


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """How the whole model is measured on the held-out data.

    That is done once in `every` rounds (0: never), with `batch_size` samples at a time.
    """

    every: int = 1
    batch_size: int = 64

    def __post_init__(self) -> None:
        at_least("eval.every", self.every, 0)
        at_least("eval.batch_size", self.batch_size, 1)
