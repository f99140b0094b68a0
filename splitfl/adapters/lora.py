"""LoRA (Hu et al., ICLR'22): a module's update is alpha / rank times B A."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from peft import LoraConfig, inject_adapter_in_model
from torch import Tensor, nn

from channel.core.rng import stream
from splitfl.adapters.dropout import StepDropout
from splitfl.adapters.kind import DEFAULT, AdapterKind, Factor, LoraRank, constant, kaiming
from splitfl.adapters.residuals import A, B, Residual, put_frozen
from splitfl.adapters.singular import principal
from splitfl.config import SideConfig, at_least, group, one_of
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.quantised import is_shape_only

INITS: Final = ("kaiming", "orthogonal", "pissa")
_START: Final = "start"


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """`init` sets the initial factors.

    - `kaiming`: A is Kaiming-uniform, B is zero.
    - `orthogonal`: both are projections of one random orthogonal matrix, so that B A is zero up to rounding
      (as in peft, from the seed and the module's name); the rank must be even.
    - `pissa`: B A are the weight's principal singular vectors, which are subtracted from the frozen weight
      (PiSSA, Meng et al., NeurIPS'24).

    `dropout` is the probability with which an input of A is zeroed in a training step (lora_dropout of peft).
    `bias`: which biases of the side are trained, as in peft: `none`, those of the adapted modules
    (`lora_only`), or `all`.
    """

    low_rank: LoraRank = group(LoraRank)
    init: str = INITS[0]
    dropout: float = 0.0
    bias: str = "none"

    def __post_init__(self) -> None:
        one_of("adapter init", self.init, INITS)
        one_of("adapter bias", self.bias, ("none", "lora_only", "all"))
        at_least("adapter dropout", self.dropout, 0.0)
        if self.dropout >= 1.0:
            raise ConfigError(f"adapter dropout must be below 1.0, got {self.dropout}")
        odd = [rank for rank in (self.low_rank.rank, *self.low_rank.ranks) if rank % 2]
        if self.init == "orthogonal" and odd:
            raise ConfigError(f"adapter rank must be even with init 'orthogonal', got {odd[0]}")


def lora_config(
    ranks: Mapping[str, int],
    alphas: Mapping[str, float],
    fan_in_fan_out: bool,
    *,
    use_dora: bool = False,
    dropout: float = 0.0,
    bias: str = "none",
) -> LoraConfig:
    """A peft config with explicit module names; ranks and alphas that differ from the first are patterns."""
    names = sorted(ranks)
    rank, alpha = (ranks[names[0]], alphas[names[0]]) if names else (1, 1.0)
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft only ever divides it by the rank
        target_modules=names,
        rank_pattern={name: ranks[name] for name in names if ranks[name] != rank},
        alpha_pattern={name: alphas[name] for name in names if alphas[name] != alpha},
        fan_in_fan_out=fan_in_fan_out,
        lora_dropout=dropout,
        bias=bias,  # type: ignore[arg-type]  # a Literal of the same strings
        use_dora=use_dora,
    )


def inject_lora(piece: Piece, ranks: Mapping[str, int], side: SideConfig, *, use_dora: bool = False) -> None:
    """Injects peft's LoRA, or DoRA, at the side's scale."""
    scale = side.of(LoraRank).scale
    alphas = {name: scale * rank for name, rank in ranks.items()}
    config = lora_config(ranks, alphas, piece.family.fan_in_fan_out, use_dora=use_dora)
    inject_adapter_in_model(config, piece.model)


def _initialise(piece: Piece, ranks: Mapping[str, int], side: SideConfig, seed: int) -> None:
    """Adds the dropout, and sets A and B by `init`; a frozen submodule subtracts PiSSA's initial product.

    The frozen weight itself, which several pieces may share and a bfloat16 model would round, stays as it is.
    For a shape-only piece no singular vectors are computed.
    """
    own = side.of(LoraSettings)
    init = own.init
    for name in ranks:
        layer: Any = piece.model.get_submodule(name)
        if own.dropout:
            layer.lora_dropout[DEFAULT] = StepDropout(name, own.dropout, piece.current_step)
        if init == "kaiming":
            continue
        base, held = layer.base_layer, (layer.lora_A[DEFAULT].weight, layer.lora_B[DEFAULT].weight)
        scale = layer.scaling[DEFAULT]
        if init == "orthogonal":
            factors = _orthogonal(seed, name, *held)
        elif is_shape_only(base):
            factors = held[0].detach(), held[1].detach()
        else:
            first, second = principal(base, len(held[0]))
            factors = first / math.sqrt(scale), second / math.sqrt(scale)
        for parameter, value in zip(held, factors, strict=True):
            parameter.data = value.to(parameter.device)
        if init == "pissa":
            put_frozen(layer, _START, factors[0], -factors[1], held[0].device)


def _orthogonal(seed: int, name: str, like_A: Tensor, like_B: Tensor) -> tuple[Tensor, Tensor]:
    """Factors through complementary halves of the rows of a random orthogonal matrix (r, r), B A = 0."""
    chance, rank = stream(seed, "lora", "orthogonal", name), len(like_A)
    rows, _ = np.linalg.qr(chance.normal(size=(rank, rank)))
    to = chance.normal(size=(rank // 2, like_A.shape[1]))
    back = chance.normal(size=(len(like_B), rank // 2))
    factors = rows[0::2].T @ to / 10, back @ rows[1::2] / 10
    first, second = (torch.from_numpy(np.ascontiguousarray(one, dtype=np.float32)) for one in factors)
    return first, second


def _as_lora(layer: nn.Module, trained: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The trained factors, and those that PiSSA subtracts as additional rank."""
    start = dict(layer.named_children()).get(_START)
    if start is None:
        return trained[A], trained[B]
    assert isinstance(start, Residual)
    frozen_A, frozen_B = start.A.weight.detach().cpu(), start.B.weight.detach().cpu()
    return torch.cat([trained[A], frozen_A]), torch.cat([trained[B], frozen_B], dim=1)


LORA = AdapterKind(
    title="LoRA",
    settings=LoraSettings,
    factors={A: Factor("first", kaiming("lora")), B: Factor("second", constant(0.0))},
    inject=inject_lora,
    initialise=_initialise,
    as_lora=_as_lora,
    citation="""@inproceedings{hu2022lora,
  title = {{LoRA}: Low-Rank Adaptation of Large Language Models},
  author = {Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and
    Wang, Shean and Wang, Lu and Chen, Weizhu},
  booktitle = {International Conference on Learning Representations},
  year = {2022}
}""",
)
