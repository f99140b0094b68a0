"""The specification of an adapter kind: settings, tensors, injection, FLOPs and export."""

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
"""peft's adapter name, which is part of its parameters' names."""

Initial = Callable[[int, str, Tensor], Tensor]
"""Computes a tensor's initial value (float32, same shape) from the seed, its name and the injected tensor."""


@dataclass(frozen=True, kw_only=True)
class Targets:
    """`targets` are the linear modules to adapt; none: those that the family names.

    Each is the end of their names; `all-linear`, for all of the base model; or a regular expression that
    matches whole names, as a string does in peft. `layers_to_transform` limits them to these blocks, counted
    in the unsplit model. `modules_to_save` are modules of any type, by the ends of their names, whose own
    parameters are trained: a classifier of the checkpoint, embeddings.
    """

    targets: tuple[str, ...] = ()
    layers_to_transform: tuple[int, ...] = ()
    modules_to_save: tuple[str, ...] = ()


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

    @property
    def scale(self) -> float:
        """The factor by which the product of the low-rank factors is multiplied."""
        return self.alpha / self.rank

    def alpha_of(self, rank: int) -> float:
        """The `alpha` that gives an adapter of this rank the same scale."""
        return self.scale * rank


@dataclass(frozen=True, kw_only=True)
class LoraRank(LowRank):
    """LoRA's `rank`, and `ranks`, one for each of the side's blocks, in order, at the same scale.

    With `use_rslora` the scale is `alpha` / sqrt(rank) (rsLoRA, Kalajdzievski, arXiv 2312.03732).
    """

    use_rslora: bool = False

    @property
    def scale(self) -> float:
        return self.alpha / math.sqrt(self.rank) if self.use_rslora else self.alpha / self.rank

    def alpha_of(self, rank: int) -> float:
        return self.scale * (math.sqrt(rank) if self.use_rslora else rank)


@dataclass(frozen=True)
class Factor:
    """A trainable tensor in each adapted module.

    Of the `first` factors and the
    `second`, which is initialised to zero, `ffa` and `rolora` train one at a time; `alone` is always trained.
    """

    role: Literal["first", "second", "alone"]
    initial: Initial


@dataclass(frozen=True, kw_only=True)
class AdapterKind:
    """An adapter kind; plug-ins are instances under the entry point group `splitfl.adapters`.

    `settings` is the type of its own settings, a frozen dataclass whose fields are its keys of [adapter.head]
    and [adapter.body] beside `kind`. `factors` are its trainable tensors by the suffix of their names in the
    unsplit model, without peft's `default`. `inject` adds it to modules of a frozen piece, given with their
    ranks (0 for a kind without one); `initialise`, of (piece, ranks, side, seed), sets the values of its
    frozen tensors. Random values must depend on the seed and a name only, so that they do not depend on the
    cut.

    `as_lora` computes, from an adapted module and its trained tensors by suffix, the factors A (r, in) and
    B (out, r) of the same update, which DoRA then divides by its norm; a kind without it is exported with the
    config `peft_config` of (adapted modules by name, fan_in_fan_out), in a subfolder beside LoRA. Exactly one
    of the two is required.

    `flops` computes the FLOPs, forward and backward, from (module, rows, whether the input needs a
    gradient), excluding the module's own linear submodules, which are counted like any others.

    `linear`: True if the update is linear in each factor while the others are fixed, so that the mean of one
    factor over clients is exact, else the reason. `forward_mode` and `transposed`: True if it supports
    forward-mode differentiation and the transposed weights of a Conv1D, else the reason. A kind with
    `trains_all` adds no tensors: the side's own parameters are trained. Raises ConfigError for an
    inconsistent specification.
    """

    title: str
    settings: type = NoSettings
    factors: Mapping[str, Factor]
    inject: Callable[[Piece, Mapping[str, int], SideConfig], None]
    initialise: Callable[[Piece, Mapping[str, int], SideConfig, int], None] | None = None
    flops: Callable[[nn.Module, int, bool], tuple[int, int]] | None = None
    as_lora: Callable[[nn.Module, Mapping[str, Tensor]], tuple[Tensor, Tensor]] | None = None
    peft_config: Callable[[Mapping[str, nn.Module], bool], PeftConfig] | None = None
    linear: Literal[True] | str = True
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
        """The line of `splitfl list adapters`: the name in the literature, and the settings."""
        read = key_types(self.settings)
        return f"{self.title}; settings: {', '.join(read)}" if read else self.title

    @property
    def first(self) -> tuple[str, ...]:
        """The suffixes of the first factors, in the order in which `rolora` trains them."""
        return tuple(ending for ending, factor in self.factors.items() if factor.role == "first")

    @property
    def is_lora(self) -> bool:
        """Whether the factors are LoRA's A and B, so that products can be aggregated and ranks padded."""
        return set(self.factors) == {A, B}

    def scale(self, side: SideConfig) -> float:
        """The scale of the product of the factors; 1 for a kind without a rank and an alpha."""
        low_rank = side.find(LowRank)
        return low_rank.scale if low_rank else 1.0

    def describe(self, side: Mapping[str, Any]) -> str:
        """This kind with its settings in words, as `LoRA of rank 8`."""
        words, keys = self.title, key_types(self.settings)
        if "rank" in keys:
            words += f" of rank {', '.join(map(str, side.get('ranks', ()))) or side['rank']}"
        if "trained_numbers" in keys and "trained_numbers" in side:
            words += f" with {side['trained_numbers']} trained numbers a module"
        if frozen := side.get("frozen_modules"):
            words += f" except those of {', '.join(frozen)}"
        return words


def constant(value: float) -> Initial:
    """A constant initial value."""
    return lambda seed, name, like: torch.full_like(like, value, dtype=torch.float32)


def kaiming(kind: str) -> Initial:
    """Kaiming-uniform with a = sqrt(5), as in peft, from a random stream named after the kind."""

    def drawn(seed: int, name: str, like: Tensor) -> Tensor:
        return uniform((seed, kind, name), 1.0 / math.sqrt(like.shape[1]), like)

    return drawn


def uniform(key: tuple[int, str, str], bound: float, like: Tensor) -> Tensor:
    """Float32 values in [-bound, bound) of this shape, on its device, from the stream of the key."""
    drawn = stream(*key).uniform(-bound, bound, tuple(like.shape)).astype(np.float32)
    return torch.from_numpy(drawn).to(like.device)
