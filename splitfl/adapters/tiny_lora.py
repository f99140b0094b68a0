"""TinyLoRA (arXiv 2602.04118): a module's change is B R A, and R is a sum of fixed matrices P that v weighs.

A (r, in) and B (out, r) are the frozen weight's first singular vectors, each times the root
of its value, and P (u, r, r) is drawn; only the u numbers of v are trained. peft can let
modules share one v, which pieces on two sides of a cut could not: here each has its own.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import peft
import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from channel.core.rng import stream
from splitfl.core.errors import ConfigError

V: Final = ".tinylora_v.0"
_NAME = "default"


class Parts(NamedTuple):
    """What a module with TinyLoRA holds besides its weight: A (r, in), B (out, r) and P (u, r, r)."""

    A: Tensor
    B: Tensor
    P: Tensor


def is_tiny(module: nn.Module) -> bool:
    """Whether this is a module with TinyLoRA; peft's class of it is not in every peft."""
    return hasattr(module, "tinylora_P")


def parts(layer: nn.Module) -> Parts:
    """What it holds besides its weight."""
    own: Any = layer
    return Parts(own.tinylora_A[_NAME], own.tinylora_B[_NAME], own.tinylora_P[_NAME])


def as_factors(layer: nn.Module, v: Tensor) -> tuple[Tensor, Tensor]:
    """The two factors of the LoRA that it is with these numbers: R A, and B."""
    held = parts(layer)
    return torch.einsum("u,ujk->jk", v, held.P.cpu()) @ held.A.cpu(), held.B.cpu()


def inject(model: nn.Module, names: Sequence[str], rank: int, numbers: int, fan_in_fan_out: bool) -> None:
    """Puts TinyLoRA on these modules, in one call of peft for each, so that none shares its v.

    peft sees weights that are empty: the singular vectors are found by `begin`, once.
    Raises ConfigError where peft has no TinyLoRA, or lays it out in another way.
    """
    try:
        from peft import TinyLoraConfig, TinyLoraModel  # not in every peft that we admit
    except ImportError:
        raise _lacking() from None
    for name in names:
        module = model.get_submodule(name)
        weight = module.get_parameter("weight")
        model.__dict__.pop("peft_config", None)  # of the module before
        settings = TinyLoraConfig(
            r=rank, u=numbers, target_modules=[name], fan_in_fan_out=fan_in_fan_out, save_projection=True
        )
        module._parameters["weight"] = nn.Parameter(weight.detach().to("meta"), requires_grad=False)
        TinyLoraModel(model, settings, _NAME)  # type: ignore[no-untyped-call]
        module._parameters["weight"] = weight
        layer: Any = model.get_submodule(name)
        if set(dict(layer.tinylora_v.named_parameters())) != {f"{_NAME}.0"}:
            raise _lacking()
        layer.tinylora_v[_NAME]["0"] = nn.Parameter(torch.zeros(numbers, device=weight.device))


def begin(model: nn.Module, seed: int) -> None:
    """A, B and P of every module: of the weight, and drawn from the seed and the module's name.

    P is normal with variance 1 / r as in peft. All are float32. Of a hollow piece they are zeros.
    """
    for name, layer in _layers(model):
        base = layer.get_submodule("base_layer")
        weight = base.get_parameter("weight").detach()
        own: Any = layer
        held = parts(layer)
        if 0 in weight.stride():
            own.tinylora_A[_NAME], own.tinylora_B[_NAME], own.tinylora_P[_NAME] = (
                torch.zeros(part.shape) for part in held
            )
            continue
        rank = len(held.A)
        first, second = _singular(weight.T if isinstance(base, Conv1D) else weight, rank)
        drawn = stream(seed, "tinylora", name).normal(0.0, rank**-0.5, tuple(held.P.shape)).astype(np.float32)
        own.tinylora_A[_NAME], own.tinylora_B[_NAME] = first.to(weight.device), second.to(weight.device)
        own.tinylora_P[_NAME] = torch.from_numpy(drawn).to(weight.device)


def _layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    return ((name, module) for name, module in model.named_modules() if is_tiny(module))


def _singular(weight: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    """The first factors of the weight (out, in), A (r, in) and B (out, r).

    On the CPU wherever the weight is, and with the largest number in each row of A above
    zero: a pair of singular vectors has no sign of its own, and each machine finds another.
    """
    u, values, v = torch.linalg.svd(weight.cpu().float(), full_matrices=False)
    u, values, v = u[:, :rank], values[:rank], v[:rank]
    largest = v.gather(1, v.abs().argmax(1, keepdim=True))
    scale = values.sqrt() * torch.where(largest < 0, -1.0, 1.0)[:, 0]
    return (scale[:, None] * v).contiguous(), (u * scale).contiguous()


def _lacking() -> ConfigError:
    return ConfigError(
        "adapters of kind 'tinylora' need a peft that has TinyLoRA, as 0.21.2 has; this is "
        f"{peft.__version__}"
    )
