"""Low-rank residuals: frozen factor pairs that are added to a module besides its LoRA.

LoRA's factors of a module are `NAME.lora_A.weight` (r, in) and `NAME.lora_B.weight`
(out, r). A residual is a frozen pair `NAME.residual_A.weight` and `NAME.residual_B.weight` with the
scale of the module's LoRA: the part of an exact aggregate that one A and B cannot represent. It is not
merged into the frozen weights, which avoids rounding in bfloat16, and changes to weights that
several pieces share.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

A, B = ".lora_A.weight", ".lora_B.weight"
RESIDUAL_A, RESIDUAL_B = ".residual_A.weight", ".residual_B.weight"
RESIDUALS: Final = (RESIDUAL_A, RESIDUAL_B)
_NOTHING: Final = 1e-9  # relative to the largest singular value, in float64: rounding errors of zero
RESIDUAL_CHILD: Final = "residual"
"""The name of a residual as a submodule of the module with LoRA."""


def rank_axis(name: str) -> int:
    """The axis of the rank in a factor of this name: 0 for A, 1 for B."""
    return 0 if name.endswith((A, RESIDUAL_A)) else 1


def above(tensors: Mapping[str, Tensor], rank: int) -> list[Tensor]:
    """The rows (A) or columns (B) beyond this rank of each factor that has more."""
    return [
        value.narrow(rank_axis(name), rank, value.shape[rank_axis(name)] - rank)
        for name, value in tensors.items()
        if name.endswith((A, B)) and value.shape[rank_axis(name)] > rank
    ]


def at_most_full_rank(factor_A: Tensor, factor_B: Tensor) -> tuple[Tensor, Tensor]:
    """The factors (r, in) and (out, r), compressed to full rank where r is above it."""
    if len(factor_A) > min(factor_A.shape[1], len(factor_B)):
        return compressed(factor_A, factor_B)
    return factor_A, factor_B


def compressed(factor_A: Tensor, factor_B: Tensor, rank: int | None = None) -> tuple[Tensor, Tensor]:
    """Factors (r, in) and (out, r) of the same product, float32, of its numerical rank or at most `rank`.

    Two thin QR decompositions reduce it to an SVD of the size of the rank; the first r rows and
    columns of the result are the best approximation of rank r.
    """
    left, core_B = torch.linalg.qr(factor_B.double())
    right, core_A = torch.linalg.qr(factor_A.double().T)
    u, values, v = torch.linalg.svd(core_B @ core_A.T)
    kept = int((values > _NOTHING * values[:1]).sum())
    kept = max(1, kept if rank is None else min(rank, kept))
    root = values[:kept].sqrt()
    return (root[:, None] * (v[:kept] @ right.T)).float(), (left @ u[:, :kept] * root).float()


def extended(held: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The sum of the residuals in `held` and `more`, compressed if its rank exceeds the full rank."""
    found = {name: value for name, value in held.items() if name.endswith(RESIDUALS)}
    for name, new_A in more.items():
        if name.endswith(RESIDUAL_A):
            other = name.removesuffix(RESIDUAL_A) + RESIDUAL_B
            new_B = more[other]
            if name in found:
                new_A, new_B = torch.cat([found[name], new_A]), torch.cat([found[other], new_B], dim=1)
            found[name], found[other] = at_most_full_rank(new_A, new_B)
    return found


class Residual(nn.Module):
    """The frozen map x -> scale B A x."""

    def __init__(self, factor_A: Tensor, factor_B: Tensor, scale: float) -> None:
        super().__init__()
        self.A = _frozen(factor_A)
        self.B = _frozen(factor_B)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.scale * self.B(self.A(x.to(self.A.weight.dtype)))
        return found


def put_residuals(model: nn.Module, tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Sets or replaces the residuals of modules with LoRA."""
    for name, factor_A in tensors.items():
        if name.endswith(RESIDUAL_A):
            path = name.removesuffix(RESIDUAL_A)
            put_frozen(
                model.get_submodule(path), RESIDUAL_CHILD, factor_A, tensors[path + RESIDUAL_B], device
            )


def put_frozen(
    layer: nn.Module, child: str, factor_A: Tensor, factor_B: Tensor, device: torch.device
) -> None:
    """Adds scale B A to a module with LoRA as a frozen submodule of this name, or replaces it."""
    scale = cast(LoraLayer, layer).scaling["default"]
    is_first = child not in layer._modules
    layer.add_module(child, Residual(factor_A, factor_B, scale).to(device))
    if is_first:
        layer.register_forward_hook(partial(_add_residual, child))


def residuals(model: nn.Module) -> dict[str, Tensor]:
    """The residuals of all modules, by name."""
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, Residual) and path.endswith(f".{RESIDUAL_CHILD}"):
            of = path.removesuffix(f".{RESIDUAL_CHILD}")
            found |= {of + RESIDUAL_A: module.A.weight.detach(), of + RESIDUAL_B: module.B.weight.detach()}
    return found


def folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors with each residual folded into its module's LoRA as additional rank."""
    found = {name: value for name, value in tensors.items() if not name.endswith(RESIDUALS)}
    for name, value in tensors.items():
        if name.endswith(RESIDUAL_A):
            first = name.removesuffix(RESIDUAL_A) + A
            found[first] = torch.cat([found[first], value])
        elif name.endswith(RESIDUAL_B):
            second = name.removesuffix(RESIDUAL_B) + B
            found[second] = torch.cat([found[second], value], dim=1)
    return found


def _frozen(weight: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().float().clone(), requires_grad=False)
    return linear


def _add_residual(child: str, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    residual = getattr(module, child)
    if residual is None:  # a client of a shared piece has none yet
        return output
    added: Tensor = residual(args[0])
    return output + added.to(output.dtype)
