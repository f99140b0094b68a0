"""Settings of the method, training, the controller and evaluation."""

from dataclasses import dataclass

from splitfl.config.checks import above, at_least, one_of
from splitfl.config.codec import check_codec
from splitfl.config.plugin import PluginTable
from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class MethodConfig(PluginTable):
    """The fine-tuning method and its settings; see `splitfl list methods`.

    At most `in_flight` steps are processed by the server concurrently, if the method supports more than
    one: step i then starts from the server's parameters after step i - in_flight. With `server_batch` the
    activations of that many clients go through the body as one batch: one forward pass, one backward pass and
    one optimiser step on their mean loss (1: a step for each client). `settings` are the method's, then those
    of methods that [auto] may choose.
    """

    name: str = "sfl-v2"
    in_flight: int = 1
    server_batch: int = 1

    def __post_init__(self) -> None:
        at_least("method.in_flight", self.in_flight, 1)
        at_least("method.server_batch", self.server_batch, 1)


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """AdamW on both sides (Loshchilov & Hutter, ICLR'19), and the random seed.

    A step has `batch_size` samples. `head_lr` and `body_lr` are the learning rates of the clients and of the
    server, `weight_decay` is that of both. All random numbers (data order, initial values, service
    order, packet losses) derive from `seed`.

    `head_schedule` is of the clients' learning rates, their tail's or auxiliary's included, `body_schedule`
    of the server's: `constant`, or falling from round to round towards zero, in a straight line (`linear`)
    or as half a `cosine` (Loshchilov & Hutter, ICLR'17, equation 5, without restarts). Step n = 1, 2, ... of
    an optimiser takes min(1, n / `warmup_steps`) of that rate (0: no warm-up). Each client's optimiser and
    each body's counts its own steps: a body that N clients share takes N times as many as a client, and
    with `method.server_batch` k N / k times as many.

    With `accumulate` an optimiser steps once in that many batches, with the mean of their gradients: that of
    one larger batch if all have as many samples, or tokens to predict; where they differ, each batch counts
    the same. Lost batches are not counted. A shared body accumulates over the batches of all clients, or the
    joint ones of `method.server_batch`, in the order in which they are committed. A group of batches ends
    with its round, or where clients are in different rounds with each aggregation: there the optimiser steps
    with the mean of those that came, so that no gradient is applied to aggregated tensors. Each side then
    clips the norm of its own gradients to `clip_grad_norm` (0: no clipping) as torch.nn.utils.clip_grad_norm_
    does: a client over all that it trains, the server over the body, since neither has the gradients of both.

    Zeroth-order steps have no optimiser: warm-up, accumulation and clipping then apply to the body alone,
    and methods without any optimiser refuse them. The alignment of `fsl-sage`'s auxiliary always takes
    plain AdamW steps. A training or held-out loss above `max_loss`, or that is not finite, ends the run.
    """

    batch_size: int = 16
    head_lr: float = 1e-3
    head_schedule: str = "constant"
    body_lr: float = 1e-3
    body_schedule: str = "constant"
    warmup_steps: int = 0
    accumulate: int = 1
    clip_grad_norm: float = 0.0
    weight_decay: float = 0.0
    max_loss: float = 1e4
    seed: int = 0

    def __post_init__(self) -> None:
        at_least("train.batch_size", self.batch_size, 1)
        above("train.head_lr", self.head_lr, 0.0)
        above("train.body_lr", self.body_lr, 0.0)
        for key in ("head_schedule", "body_schedule"):
            one_of(f"train.{key}", getattr(self, key), ("constant", "linear", "cosine"))
        at_least("train.warmup_steps", self.warmup_steps, 0)
        at_least("train.accumulate", self.accumulate, 1)
        at_least("train.clip_grad_norm", self.clip_grad_norm, 0.0)
        at_least("train.weight_decay", self.weight_decay, 0.0)
        above("train.max_loss", self.max_loss, 0.0)
        at_least("train.seed", self.seed, 0)


@dataclass(frozen=True, kw_only=True)
class AutoConfig:
    """The controller's choice of a local update, a cut, a rank and a codec for each client.

    A client may spend at most `limit` of the `budget` (`seconds` on the virtual clock, `bytes` of both
    directions, `joules` radiated; `none`: no controller) in a round, and use `client_memory_bytes`, one value
    per client (empty: no limit). From `methods`, `cuts`, `ranks` and `codecs` (of activations and gradients)
    it chooses, within these limits, the first method, then the first codec, then the largest rank, then the
    cut with the shortest round; an empty list keeps the run's setting.

    With `every` 0 it chooses once, before the run. Else it chooses before the run and again after every
    `every` rounds: measured costs correct the expected ones, and unspent or overspent budget carries over.
    This needs `sfl-v2`, whose clients may change to the local update of `cse-fsl` or `hybrid`, or freeze
    their heads as in `frozen`; `head_lrs` has the heads' learning rate for each of `methods` (empty:
    `train.head_lr`). A client's computing time is by `client.flops` or `federation.client_flops`, or, if
    `speed` is `measured`, by its measured FLOP/s. `chosen` has the controller's reasons, which it writes.
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
            raise ConfigError("auto.speed 'measured' needs auto.every of at least 1")


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
