"""DoRA (Liu et al., ICML'24): the weight is m (W + s B A) / |W + s B A|, with trained A, B and magnitudes m.

The norm is that of each output's row of the weight, and a constant to the gradient, as in the paper's
section 4.3 and in peft. The weight is not linear in B: no mean over clients is exact, even with a common A.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from splitfl.adapters.kind import DEFAULT, AdapterKind, Factor, LoraRank, constant, kaiming
from splitfl.adapters.lora import inject_lora
from splitfl.adapters.residuals import A, B
from splitfl.config import SideConfig
from splitfl.models.cut import Piece
from splitfl.models.quantised import weight_of

MAGNITUDE = ".lora_magnitude_vector.weight"


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    inject_lora(piece, ranks, side, use_dora=True)


def _norms(seed: int, name: str, like: Tensor) -> Tensor:
    """The norms of the frozen weight, which peft computes when it injects."""
    return like.detach().float()


def _flops(layer: nn.Module, rows: int, flows_in: bool) -> tuple[int, int]:
    """The product B A, whose norm is taken; peft multiplies A by the identity (in, in) first."""
    first, second = (layer.get_parameter(f"{end[1:]}.{DEFAULT}.weight") for end in (".lora_A", ".lora_B"))
    inputs = first.shape[1]
    return 2 * inputs * (first.numel() + second.numel()), 0


def magnitude(base: nn.Module, factor_A: Tensor, factor_B: Tensor, scale: float) -> Tensor:
    """The norms (out,) of the rows of a linear module's weight with the update scale B A, on the CPU."""
    weight = weight_of(base).cpu().float()
    weight = weight.T if isinstance(base, Conv1D) else weight
    found: Tensor = torch.linalg.vector_norm(weight + scale * factor_B @ factor_A, dim=1)
    return found


def _as_lora(layer: nn.Module, trained: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The factors in the norm; the export adds the magnitude."""
    return trained[A], trained[B]


DORA = AdapterKind(
    title="DoRA",
    settings=LoraRank,
    factors={
        A: Factor("first", kaiming("lora")),
        B: Factor("second", constant(0.0)),
        MAGNITUDE: Factor("alone", _norms),
    },
    inject=_inject,
    flops=_flops,
    linear="its weight is divided by a norm that depends on A and B",
    as_lora=_as_lora,
    citation="""@inproceedings{liu2024dora,
  title = {{DoRA}: Weight-Decomposed Low-Rank Adaptation},
  author = {Liu, Shih-Yang and Wang, Chien-Yi and Yin, Hongxu and Molchanov, Pavlo and
    Wang, Yu-Chiang Frank and Cheng, Kwang-Ting and Chen, Min-Hung},
  booktitle = {International Conference on Machine Learning},
  year = {2024}
}""",
)
