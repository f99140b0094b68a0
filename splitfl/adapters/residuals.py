"""Products of two thin matrices, and the frozen ones that clients add to a module besides their LoRA.

LoRA's factors of a module are `NAME.lora_A.weight` (r, in) and `NAME.lora_B.weight`
(out, r). A residual is such a pair that nobody trains, `NAME.residual_A.weight` and
`NAME.residual_B.weight`, scaled as the module's LoRA is: what an exact aggregation found
beyond one A and B. Kept apart from the frozen weights, it loses nothing in bfloat16, and
pieces that share these weights stay apart.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn

A, B = ".lora_A.weight", ".lora_B.weight"
RESIDUAL_A, RESIDUAL_B = ".residual_A.weight", ".residual_B.weight"
RESIDUALS: Final = (RESIDUAL_A, RESIDUAL_B)
_NOTHING: Final = 1e-9  # of the largest singular value, in float64: what rounding leaves of a zero
_CHILD: Final = "residual"


def rank_axis(name: str) -> int:
    """Along which axis a factor of this name has one row, or column, for each rank."""
    return 0 if name.endswith((A, RESIDUAL_A)) else 1


def above(tensors: Mapping[str, Tensor], rank: int) -> list[Tensor]:
    """Of each of these factors the rows (A) or columns (B) from this rank on, as far as there are any."""
    return [
        value.narrow(rank_axis(name), rank, value.shape[rank_axis(name)] - rank)
        for name, value in tensors.items()
        if name.endswith((A, B)) and value.shape[rank_axis(name)] > rank
    ]


def compressed(factor_A: Tensor, factor_B: Tensor, rank: int | None = None) -> tuple[Tensor, Tensor]:
    """Factors of the same product, float32, with no more rank than it has, or than `rank`.

    Two thin QR decompositions leave a singular value decomposition of the ranks' size; the
    first r rows and columns of what comes out are the best factors of rank r.
    """
    left, core_B = torch.linalg.qr(factor_B.double())
    right, core_A = torch.linalg.qr(factor_A.double().T)
    u, values, v = torch.linalg.svd(core_B @ core_A.T)
    kept = int((values > _NOTHING * values[:1]).sum())
    kept = max(1, kept if rank is None else min(rank, kept))
    root = values[:kept].sqrt()
    return (root[:, None] * (v[:kept] @ right.T)).float(), (left @ u[:, :kept] * root).float()


def extended(held: Mapping[str, Tensor], more: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The residuals in `held` with those in `more` added, in as few numbers as their sum has."""
    found = {name: value for name, value in held.items() if name.endswith(RESIDUALS)}
    for name, new_A in more.items():
        if name.endswith(RESIDUAL_A):
            other = name.removesuffix(RESIDUAL_A) + RESIDUAL_B
            new_B = more[other]
            if name in found:
                new_A, new_B = torch.cat([found[name], new_A]), torch.cat([found[other], new_B], dim=1)
            if len(new_A) > min(new_A.shape[1], len(new_B)):
                new_A, new_B = compressed(new_A, new_B)
            found[name], found[other] = new_A, new_B
    return found


class Residual(nn.Module):
    """x times A and B, times `scale`; nothing of it is trained."""

    def __init__(self, factor_A: Tensor, factor_B: Tensor, scale: float) -> None:
        super().__init__()
        self.A = _frozen(factor_A)
        self.B = _frozen(factor_B)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.scale * self.B(self.A(x.to(self.A.weight.dtype)))
        return found


def put_residuals(model: nn.Module, tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Gives modules with LoRA these residuals in place of those they have."""
    for name, factor_A in tensors.items():
        if name.endswith(RESIDUAL_A):
            path = name.removesuffix(RESIDUAL_A)
            module = cast(LoraLayer, model.get_submodule(path))
            residual = Residual(factor_A, tensors[path + RESIDUAL_B], module.scaling["default"]).to(device)
            layer = cast(nn.Module, module)
            is_first = _CHILD not in dict(layer.named_children())
            layer.add_module(_CHILD, residual)
            if is_first:
                layer.register_forward_hook(_add_residual)


def residuals(model: nn.Module) -> dict[str, Tensor]:
    """What residuals its modules have, by name."""
    found: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        if isinstance(module, Residual):
            of = path.removesuffix(f".{_CHILD}")
            found |= {of + RESIDUAL_A: module.A.weight.detach(), of + RESIDUAL_B: module.B.weight.detach()}
    return found


def folded(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same tensors with each residual made part of its module's LoRA, as so much more rank."""
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


def _add_residual(module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
    added: Tensor = module.get_submodule(_CHILD)(args[0])
    return output + added.to(output.dtype)
