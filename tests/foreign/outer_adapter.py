"""A foreign kind of adapter: a module's update is u v, of which the column u is trained."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from splitfl.adapters.kind import AdapterKind, Factor, Targets, constant, uniform
from splitfl.config import SideConfig, above, group
from splitfl.models.cut import Piece


@dataclass(frozen=True, kw_only=True)
class OuterSettings:
    """The frozen row is uniform in [-bound, bound)."""

    bound: float = 1.0
    modules: Targets = group(Targets)

    def __post_init__(self) -> None:
        above("adapter bound", self.bound, 0.0)


class OuterLinear(nn.Module):
    """x W^T + (x v^T) u^T for x (..., in), with v (1, in) frozen."""

    def __init__(self, base_layer: nn.Module, bound: float) -> None:
        super().__init__()
        self.bound = bound
        outputs, inputs = base_layer.get_parameter("weight").shape
        self.base_layer = base_layer
        self.v = nn.Buffer(torch.zeros(1, inputs))
        self.outer_u = nn.Parameter(torch.zeros(outputs, 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.base_layer(x) + x @ self.v.T @ self.outer_u.T
        return found


def inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    for name in ranks:
        parent, _, leaf = name.rpartition(".")
        module = OuterLinear(piece.model.get_submodule(name), side.of(OuterSettings).bound)
        setattr(piece.model.get_submodule(parent), leaf, module)


def initialise(piece: Piece, ranks: Mapping[str, int], side: SideConfig, seed: int) -> None:
    for name in ranks:
        layer = piece.model.get_submodule(name)
        assert isinstance(layer, OuterLinear)
        layer.v = uniform((seed, "outer", name), layer.bound, layer.v)


def flops(layer: nn.Module, rows: int, flows_in: bool) -> tuple[int, int]:
    assert isinstance(layer, OuterLinear)
    to, back = 2 * rows * layer.v.numel(), 2 * rows * layer.outer_u.numel()
    return to + back, back + (to + back) * int(flows_in)


def as_lora(layer: nn.Module, trained: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    assert isinstance(layer, OuterLinear)
    return layer.v.cpu(), trained[".outer_u"]


OUTER = AdapterKind(
    title="an outer product",
    settings=OuterSettings,
    factors={".outer_u": Factor("alone", constant(0.0))},
    inject=inject,
    initialise=initialise,
    flops=flops,
    as_lora=as_lora,
    transposed="its layer multiplies by weights (out, in)",
    citation="@misc{outer,\n  title = {An outer product}\n}",
)
