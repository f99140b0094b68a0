"""What everything else knows of a finetuning method: one `MethodSpec` at the foot of its module."""

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
"""True, or the reason why not, as the end of a sentence about the method."""

BuildClient = Callable[[Pieces, Batches, int, RunConfig], ClientMethod]
"""From the model's pieces, the client's batches, the steps of a round and the settings."""

BuildServer = Callable[[Pieces, RunConfig], ServerMethod]
"""From the model's pieces and the settings."""

Refusal = Callable[[RunConfig, str, int], None]
"""ConfigError where the settings, the task's kind of model or its number of blocks rule the method out."""

Exchange = tuple[type[Message], type[Message]]
"""What a client sends, and what answers it."""

ROW_MESSAGES: Final[Mapping[str, type[Message]]] = {
    "activation": Activation,
    "output": Output,
    "gradient": Gradient,
}
"""The messages that a lossy link may damage row by row, by their names in [erasure] and [codec]."""

ALL_POLICIES: Final = frozenset({"mask", "zero", "rescale", "stale", "skip"})


def _demand_reason(name: str, got: object) -> None:
    if got is not True and not (isinstance(got, str) and got):
        raise ConfigError(f"{name} must be True or the reason why not, got {got!r}")


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """Which erasure policies one kind of message may have beside `reliable`, and why it lacks the others.

    `codec` is True where the message may be quantised, else why it may not.
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
            raise ConfigError(f"Tolerance.why_not must say why policies lack {missing}")
        _demand_reason("Tolerance.codec", self.codec)


ANY_LOSS: Final = Tolerance()

NO_ERASURE: Final = frozenset({"skip"})
"""A message that lost anything is not used."""

DIFFERENCES: Final = Tolerance(
    policies=NO_ERASURE,
    why_not="a difference of two losses with different tokens missing is not the loss's slope",
    codec="takes differences of losses of activations mu apart, which rounding swallows",
)
"""Of activations whose losses are subtracted from each other."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A round as its client sees it: (what it sends, what answers it), in order.

    The round begins with a `Begin`, answered by `begin` from the second round on; `step` is what each step
    exchanges, `end` the last exchange of a round.
    """

    begin: type[Message]
    step: tuple[Exchange, ...]
    end: Exchange | None

    def row_messages(self) -> frozenset[str]:
        """The names of the messages of rows that a step exchanges."""
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

FACTORS: Final = frozenset({"rolora", "ffa", "mean"})
PRODUCTS: Final = frozenset({"stack", "fedex", "svd"})
SCALARS: Final = frozenset({"seed-scalar"})

REPLAYS: Final = (
    "its clients repeat each other's steps round by round, in one order, and so must be in the same round"
)
"""Why a method whose clients replay scalars is not asynchronous."""

NOT_ONCE: Final = "passes a batch through its pieces more or less than once"
NO_ADAPTERS: Final = "its clients send no adapters"


@dataclass(frozen=True, kw_only=True)
class MethodSpec:
    """A method, whole; what every method has to say must be given, so that nothing is forgotten.

    `settings` is the type of its own settings, a frozen dataclass whose fields are its keys of [method].
    `shared` are the settings of other tables that it reads beside the codecs of what it sends, among those
    that not every method reads; any other must stay at its default. `sends` has what each message of rows
    tolerates. `holds` says whose adapters its client trains: the head's, or the whole model's.
    `asynchronous`, `single_pass` (each piece sees a batch once a step, as running statistics need) and
    `summable` (all clients send the same tensors to be averaged, so that the air may sum them) are True or
    the reason why not. `backpropagates` and `forward_mode` say how its client differentiates; the latter may
    also be asked for by `method.derivative`. `local_update` is given where the controller may choose the
    method for a client from round to round: one made by `replace` of another must say None. `refusals` are
    checked before a run. `needs` are settings, as `table.key=value`, without which it cannot run.
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
    backpropagates: bool
    forward_mode: bool = False
    local_update: LocalUpdateSpec | None = None
    refusals: tuple[Refusal, ...]
    needs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.sends.keys() != self.signature.row_messages():
            due = ", ".join(sorted(self.signature.row_messages())) or "nothing"
            got = ", ".join(sorted(self.sends)) or "nothing"
            raise ConfigError(
                f"MethodSpec.sends must have a Tolerance for what the signature exchanges, {due}; got {got}"
            )
        check_settings_type("MethodSpec.settings", self.settings, MethodConfig)
        for name in ("asynchronous", "single_pass", "summable"):
            _demand_reason(f"MethodSpec.{name}", getattr(self, name))

    @property
    def reads(self) -> frozenset[str]:
        """The settings of other tables that it reads and not every method does, codecs included."""
        return self.shared | {f"codec.{kind}" for kind, its in self.sends.items() if its.codec is True}

    def why_not(self, setting: str) -> str:
        """Why it does not read a setting, where there is more to say than that."""
        if setting in OPTIMISER:
            return "has no gradients, and no optimiser that could take them"
        table, _, kind = setting.partition(".")
        codec = self.sends[kind].codec if table == "codec" and kind in self.sends else True
        return "" if codec is True else codec
