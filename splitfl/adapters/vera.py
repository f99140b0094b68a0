"""VeRA (Kopiczko et al., ICLR'24): a module's update is diag(b) B diag(d) A, with trained b and d.

A (r, in) and B (out, r) are random and shared by all modules; a smaller module uses their first columns
and rows.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from peft import VeraConfig, VeraModel
from peft.tuners.vera.layer import VeraLayer
from torch import Tensor, nn

from splitfl.adapters.kind import DEFAULT, AdapterKind, Factor, Targets, constant, uniform
from splitfl.config import SideConfig, at_least, group
from splitfl.models.cut import Piece

_B, _D = ".vera_lambda_b", ".vera_lambda_d"


@dataclass(frozen=True, kw_only=True)
class VeraSettings:
    """`rank` is that of the matrices that all modules share."""

    rank: int = 8
    modules: Targets = group(Targets)

    def __post_init__(self) -> None:
        at_least("adapter rank", self.rank, 1)


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    settings = VeraConfig(
        r=side.of(VeraSettings).rank,
        target_modules=list(ranks),
        fan_in_fan_out=piece.family.fan_in_fan_out,
        save_projection=True,
    )
    VeraModel(piece.model, settings, DEFAULT)  # inject_adapter_in_model does not support shared tensors


def _initialise(piece: Piece, ranks: Mapping[str, int], side: SideConfig, seed: int) -> None:
    """Kaiming-uniform; rows do not depend on their number, which may be smaller in a piece."""
    drawn: dict[tuple[torch.Size, torch.Size], tuple[Tensor, Tensor]] = {}
    for layer in _layers(piece, ranks):
        first, second = _projections(layer)
        shapes = first.shape, second.shape
        if shapes not in drawn:
            bound_A, bound_B = (math.sqrt(6 / n) for n in (piece.block_config.hidden_size, len(first)))
            drawn[shapes] = (
                uniform((seed, "vera", "A"), bound_A, first.T).T,
                uniform((seed, "vera", "B"), bound_B, second),
            )
        assert layer.vera_A is not None
        assert layer.vera_B is not None
        layer.vera_A[DEFAULT], layer.vera_B[DEFAULT] = drawn[shapes]


def _flops(layer: nn.Module, rows: int, flows_in: bool) -> tuple[int, int]:
    """The projections to rank r and back, with fixed matrices and trained diagonals."""
    assert isinstance(layer, VeraLayer)
    (rank,) = layer.r.values()
    to, back = 2 * rows * rank * layer.in_features, 2 * rows * rank * layer.out_features
    return to + back, back + to * int(flows_in)


def _as_lora(layer: nn.Module, trained: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, VeraLayer)
    first, second = (shared.cpu().float() for shared in _projections(layer))
    factor_A = trained[_D][:, None] * first[:, : layer.in_features]
    return factor_A, trained[_B][:, None] * second[: layer.out_features]


def _layers(piece: Piece, names: Mapping[str, int]) -> Iterator[VeraLayer]:
    for name in names:
        layer = piece.model.get_submodule(name)
        assert isinstance(layer, VeraLayer)
        yield layer


def _projections(layer: VeraLayer) -> tuple[Tensor, Tensor]:
    assert layer.vera_A is not None
    assert layer.vera_B is not None
    return layer.vera_A[DEFAULT], layer.vera_B[DEFAULT]


VERA = AdapterKind(
    title="VeRA",
    settings=VeraSettings,
    factors={_D: Factor("first", constant(0.1)), _B: Factor("second", constant(0.0))},
    inject=_inject,
    initialise=_initialise,
    flops=_flops,
    as_lora=_as_lora,
    citation="""@inproceedings{kopiczko2024vera,
  title = {{VeRA}: Vector-based Random Matrix Adaptation},
  author = {Kopiczko, Dawid J. and Blankevoort, Tijmen and Asano, Yuki M.},
  booktitle = {International Conference on Learning Representations},
  year = {2024}
}""",
)
