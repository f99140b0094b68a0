"""The specification of a finetuning method: one `MethodSpec` at the end of its module."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from splitfl.config import MethodConfig, RunConfig
from splitfl.config.plugin import check_settings_type
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Adapter, Done, Gradient, Message, Output, Scalars
from splitfl.data.loader import Batches
from splitfl.methods.parts.local_update import LocalUpdateSpec
from splitfl.methods.parts.method import ClientMethod, Pieces, ServerMethod

Able = Literal[True] | str
"""True, or the reason why not, worded to follow the method's name in an error message."""

BuildClient = Callable[[Pieces, Batches, int, RunConfig], ClientMethod]
"""From the model's pieces, the client's batches, the number of steps of a round and the settings."""

BuildServer = Callable[[Pieces, RunConfig], ServerMethod]
"""From the model's pieces and the settings."""

Refusal = Callable[[RunConfig, str, int], None]
"""Raises ConfigError if the settings, the task's kind of model or its number of blocks are unsupported."""

Exchange = tuple[type[Message], type[Message]]
"""The type of a client's message, and of the reply."""

ROW_MESSAGES: Final[Mapping[str, type[Message]]] = {
    "activation": Activation,
    "output": Output,
    "gradient": Gradient,
}
"""The messages of rows, one per token, by their names in [erasure] and [codec]."""

ALL_POLICIES: Final = frozenset({"mask", "zero", "rescale", "stale", "skip"})


def declared_steps(config: RunConfig) -> tuple[int, ...]:
    """Each client's local steps per round as `federation` declares them; 0 for one pass over its data."""
    federation = config.federation
    return federation.client_steps or (federation.local_steps,) * federation.clients


def _check_reason(name: str, got: object) -> None:
    if got is not True and not (isinstance(got, str) and got):
        raise ConfigError(f"{name} must be True or the reason why not, got {got!r}")


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The erasure policies that one kind of message supports besides `reliable`.

    `why_not` is the reason that the other policies are missing. `codec` is True if the message may be
    quantised, else the reason why not. Raises ConfigError for an unknown policy and for a missing reason.
    """

    policies: frozenset[str] = ALL_POLICIES
    why_not: str = ""
    codec: Able = True

    def __post_init__(self) -> None:
        if unknown := self.policies - ALL_POLICIES:
            have = ", ".join(sorted(ALL_POLICIES))
            raise ConfigError(f"Tolerance.policies must be of {have}, got {', '.join(sorted(unknown))}")
        if self.policies < ALL_POLICIES and not self.why_not:
            missing = ", ".join(sorted(ALL_POLICIES - self.policies))
            raise ConfigError(f"Tolerance.why_not must give the reason that policies lack {missing}, got ''")
        _check_reason("Tolerance.codec", self.codec)


ANY_LOSS: Final = Tolerance()

NO_ERASURE: Final = frozenset({"skip"})
"""A message with a lost row is dropped whole."""

DIFFERENCES: Final = Tolerance(
    policies=NO_ERASURE,
    why_not="a difference of two losses with different tokens missing is no directional derivative",
    codec="takes differences of losses of activations mu apart, which rounding swallows",
)
"""Of activations whose losses enter a finite difference."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """The exchanges of a client's round, in order, as (message, reply).

    The round starts with a `Begin`, whose reply is a `begin` from the second round on; `step` has the
    exchanges of each step, `end` is the last exchange of the round.
    """

    begin: type[Message]
    step: tuple[Exchange, ...]
    end: Exchange | None

    def adapter_settings(self) -> frozenset[str]:
        """The settings of the codecs of adapters, by direction, that a round sends."""
        up = _ADAPTER_UP if self.end == (Adapter, Done) else ()
        return frozenset((*up, *((_ADAPTER_DOWN,) if self.begin is Adapter else ())))

    def row_messages(self) -> frozenset[str]:
        """The names, as in `ROW_MESSAGES`, of the messages of rows that a step exchanges."""
        kinds = {kind for exchange in self.step for kind in exchange}
        return frozenset(name for name, kind in ROW_MESSAGES.items() if kind in kinds)

    @classmethod
    def with_adapters(cls, *step: Exchange) -> "Signature":
        """Of a method whose clients send adapters to be averaged."""
        return cls(begin=Adapter, step=step, end=(Adapter, Done))

    @classmethod
    def with_scalars(cls, *step: Exchange) -> "Signature":
        """Of a method whose clients send directional derivatives in place of adapters."""
        return cls(begin=Scalars, step=step, end=(Scalars, Done))


HEAD: Final = frozenset({"adapter.head", "train.head_lr", "train.head_schedule", "federation.aggregator"})
BODY: Final = frozenset({"train.body_lr", "train.body_schedule"})
OPTIMISER: Final = frozenset({"train.warmup_steps", "train.accumulate", "train.clip_grad_norm"})
SERVER_OPTIMISER: Final = frozenset({"federation.server_optimiser", "federation.server_lr"})
CLIENT_RANKS: Final = frozenset({"federation.client_ranks"})
ROBUST: Final = frozenset({"federation.robust", "federation.trim", "federation.clip_norm"})
UPLOADS: Final = HEAD | CLIENT_RANKS | ROBUST | SERVER_OPTIMISER
REPLAYED: Final = HEAD | SERVER_OPTIMISER
IN_FLIGHT: Final = frozenset({"method.in_flight"})
SERVER_BATCH: Final = "method.server_batch"

FACTORS: Final = frozenset({"rolora", "ffa", "mean"})
PRODUCTS: Final = frozenset({"stack", "fedex", "svd"})
SCALARS: Final = frozenset({"seed-scalar"})

REPLAYS: Final = (
    "its clients repeat each other's steps round by round, in one order, and so must be in the same round"
)
"""The reason that a method whose clients replay scalars is not asynchronous."""

_ADAPTER_DOWN: Final = "codec.adapter_down"
_ADAPTER_UP: Final = ("codec.adapter_up", "codec.error_feedback", "codec.error_decay")

NOT_ONCE: Final = "passes a batch through its pieces more or less than once"
NO_ADAPTERS: Final = "its clients send no adapters"
NO_BODY: Final = "has no body on the server"


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """The specification of a method; fields that every method must decide on have no default.

    `about` is one line for `splitfl list methods`, `bibtex` the entries for `splitfl cite`.
    `settings` is the type of its own settings, a frozen dataclass whose fields are its keys of [method].
    `shared` are the settings of other tables that it reads besides the codecs of its messages, among those
    that not every method reads; all others must have their defaults. `sends` has the tolerance of each
    message of rows. `holds` are the sides whose adapters its client trains: the head, or the whole model.
    `asynchronous`, `single_pass` (each piece computes a batch once per step, as running statistics require),
    `summable` (all clients send the same tensors, so that over-the-air summation is possible), `versioned`
    (all adapters that the server sends belong to a version, so that differences to one can be encoded),
    `server_batch` (its server is a `BatchServer`) and `shardable` (its server has one body and computes it as
    a whole only, so that several ranks can: see splitfl.parallel) are True or the reason why not.
    `backpropagates` and `forward_mode` describe the client's differentiation; the latter is also enabled by
    `method.derivative`. `dropout` are the sides that may have LoRA dropout, as the method names the step
    whenever it trains them (see training_step.py). `local_update` is set if the controller may assign the
    method to a client from round to round; a specification made by `replace` must set it, `server_batch` and
    `shardable` anew for a server of its own. `refusals` are checked before a run. `needs` are settings, as
    `table.key=value`, that a run requires. With `waits_for_all` the server, a `BatchServer`, takes all
    clients' messages of a step together. `local_steps` gives each client's local steps per round, 0 for one
    pass over its data.

    Raises ConfigError for a missing Tolerance or reason and for unsuitable settings.
    """

    about: str
    bibtex: tuple[str, ...]
    client: BuildClient
    server: BuildServer
    signature: Signature
    sends: Mapping[str, Tolerance]
    settings: type
    shared: frozenset[str]
    aggregators: frozenset[str]
    holds: tuple[Literal["head", "body"], ...]
    asynchronous: Able
    single_pass: Able
    summable: Able
    server_batch: Able
    versioned: Able = True
    backpropagates: bool
    forward_mode: bool = False
    dropout: tuple[Literal["head", "body"], ...] = ()
    shardable: Able = "does not declare that its server has one body, computed as a whole"
    local_update: LocalUpdateSpec | None = None
    refusals: tuple[Refusal, ...]
    needs: tuple[str, ...] = ()
    waits_for_all: bool = False
    local_steps: Callable[[RunConfig], tuple[int, ...]] = declared_steps

    def __post_init__(self) -> None:
        if self.sends.keys() != self.signature.row_messages():
            due = ", ".join(sorted(self.signature.row_messages())) or "nothing"
            got = ", ".join(sorted(self.sends)) or "nothing"
            raise ConfigError(
                f"MethodSpec.sends must have a Tolerance for each message of the signature, {due}; got {got}"
            )
        check_settings_type("MethodSpec.settings", self.settings, MethodConfig)
        for name in ("asynchronous", "single_pass", "summable", "versioned", "server_batch", "shardable"):
            _check_reason(f"MethodSpec.{name}", getattr(self, name))

    @property
    def reads(self) -> frozenset[str]:
        """The settings outside [method] that it reads and not every method does, codecs included."""
        rows = {f"codec.{kind}" for kind, tolerance in self.sends.items() if tolerance.codec is True}
        adapters = self.signature.adapter_settings()
        if self.versioned is not True:
            adapters -= {_ADAPTER_DOWN}
        return self.shared | rows | adapters | ({SERVER_BATCH} if self.server_batch is True else set())

    def why_not(self, setting: str) -> str:
        """The reason that it does not read a setting; "" without a particular one."""
        if setting in OPTIMISER and not self.shared & OPTIMISER:
            return "has no gradients, and no optimiser that could take them"
        if setting == SERVER_BATCH:
            return "" if self.server_batch is True else self.server_batch
        if setting == _ADAPTER_DOWN and self.versioned is not True:
            return self.versioned
        if setting in (*_ADAPTER_UP, _ADAPTER_DOWN):
            return "exchanges no adapters whose differences could be encoded"
        table, _, kind = setting.partition(".")
        codec = self.sends[kind].codec if table == "codec" and kind in self.sends else True
        return "" if codec is True else codec
