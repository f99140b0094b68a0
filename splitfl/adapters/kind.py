"""What a kind of adapter is: its settings and tensors, and how it is injected, counted and exported."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import torch
from peft import PeftConfig
from torch import Tensor, nn

from channel.core.rng import stream
from splitfl.adapters.residuals import A, B
from splitfl.config import NoSettings, SideConfig, above, at_least, group, key_types
from splitfl.config.plugin import check_settings_type
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece

DEFAULT: Final = "default"
"""peft's name for the one adapter in a module, which stands in between in its parameters' names."""

Initial = Callable[[int, str, Tensor], Tensor]
"""From the seed, a tensor's name and the tensor as injected, its initial value (float32, same shape)."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """`targets` are the modules to adapt, by the ends of their names; none: those that the family names."""

    targets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class LowRank:
    """Adapters of a `rank`, whose product is scaled by `alpha` / rank.

    `ranks` gives each of the side's blocks a rank of its own, in order, at that same scale.
    """

    rank: int = 8
    alpha: float = 16.0
    ranks: tuple[int, ...] = ()
    modules: Targets = group(Targets)

    def __post_init__(self) -> None:
        at_least("adapter rank", self.rank, 1)
        above("adapter alpha", self.alpha, 0.0)
        for rank in self.ranks:
            at_least("adapter ranks", rank, 1)


@dataclass(frozen=True)
class Factor:
    """A trainable tensor in each adapted module.

    The weight update is linear in each tensor while the others are fixed. Of the `first` factors and the
    `second`, which begins at zero, `ffa` and `rolora` train one at a time; those `alone` are always trained.
    """

    role: Literal["first", "second", "alone"]
    initial: Initial


@dataclass(frozen=True, kw_only=True)
class AdapterKind:
    """A kind of adapter; a plug-in is an instance under the entry point group `splitfl.adapters`.

    `settings` is the type of its own settings, a frozen dataclass whose fields are its keys of [adapter.head]
    and [adapter.body] beside `kind`. `factors` are its trainable tensors by the ending of their names in the
    unsplit model, without peft's `default`. `inject` puts it on these modules of a frozen piece, each with
    its rank, 0 where its settings have none; `initialise` gives what it freezes its values.
    Everything random must come from the seed and a name alone, so that every cut has the same values.

    `as_lora` gives, from an adapted module and its trained tensors by ending, the factors A (r, in) and
    B (out, r) of the same update; a kind that has none is exported by `peft_config` of
    (names, fan_in_fan_out), in a folder of its own beside LoRA. One of the two is required.

    `flops` are those, forward and backward, of (module, rows, whether the input wants a gradient) outside
    the module's own linear submodules, which are counted as any others are.

    `forward_mode` and `transposed` say whether it works under forward-mode differentiation and on the
    transposed weights of a Conv1D, or why not. A kind with `trains_all` adds nothing: the side's own
    parameters are trained.
    """

    title: str
    settings: type = NoSettings
    factors: Mapping[str, Factor]
    inject: Callable[[Piece, Mapping[str, int], SideConfig], None]
    initialise: Callable[[Piece, Mapping[str, int], int], None] | None = None
    flops: Callable[[nn.Module, int, bool], tuple[int, int]] | None = None
    as_lora: Callable[[nn.Module, Mapping[str, Tensor]], tuple[Tensor, Tensor]] | None = None
    peft_config: Callable[[list[str], bool], PeftConfig] | None = None
    forward_mode: Literal[True] | str = True
    transposed: Literal[True] | str = True
    trains_all: bool = False
    citation: str = ""

    def __post_init__(self) -> None:
        check_settings_type(f"the settings of the adapter kind {self.title}", self.settings, SideConfig)
        if not self.trains_all and (self.as_lora is None) == (self.peft_config is None):
            raise ConfigError(f"the adapter kind {self.title} must have either as_lora or peft_config")
        if self.trains_all and self.factors:
            raise ConfigError(f"the adapter kind {self.title} must have no factors where it trains_all")
        if not self.first and any(factor.role == "second" for factor in self.factors.values()):
            raise ConfigError(f"the adapter kind {self.title} must have a first factor beside its second")

    @property
    def about(self) -> str:
        """One line of `splitfl list adapters`: its name in the literature, and its settings."""
        read = key_types(self.settings)
        return f"{self.title}; settings: {', '.join(read)}" if read else self.title

    @property
    def first(self) -> tuple[str, ...]:
        """The endings of its first factors, in the order in which `rolora` trains them."""
        return tuple(ending for ending, factor in self.factors.items() if factor.role == "first")

    @property
    def is_lora(self) -> bool:
        """Whether its factors are LoRA's A and B, so that products can be aggregated and ranks padded."""
        return set(self.factors) == {A, B}

    def scale(self, side: SideConfig) -> float:
        """What the product of its factors is multiplied by: alpha / rank where it has both."""
        low_rank = side.find(LowRank)
        return low_rank.alpha / low_rank.rank if low_rank else 1.0

    def describe(self, side: Mapping[str, Any]) -> str:
        """`LoRA of rank 8`, `IA3`: this kind with these settings, as far as they say, as in a sentence."""
        said, keys = self.title, key_types(self.settings)
        if "rank" in keys:
            said += f" of rank {', '.join(map(str, side.get('ranks', ()))) or side['rank']}"
        if "trained_numbers" in keys and "trained_numbers" in side:
            said += f" with {side['trained_numbers']} trained numbers a module"
        return said


def constant(value: float) -> Initial:
    """Every element is this value."""
    return lambda seed, name, like: torch.full_like(like, value, dtype=torch.float32)


def kaiming(kind: str) -> Initial:
    """Kaiming-uniform with a = sqrt(5), as in peft, from a stream of this kind's own."""

    def drawn(seed: int, name: str, like: Tensor) -> Tensor:
        return uniform((seed, kind, name), 1.0 / math.sqrt(like.shape[1]), like)

    return drawn


def uniform(key: tuple[int, str, str], bound: float, like: Tensor) -> Tensor:
    """Float32 values in [-bound, bound) of this shape, on its device, from the stream of the key."""
    drawn = stream(*key).uniform(-bound, bound, tuple(like.shape)).astype(np.float32)
    return torch.from_numpy(drawn).to(like.device)
