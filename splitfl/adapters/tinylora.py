"""TinyLoRA (arXiv 2602.04118): a module's update is B R A, where R = sum of v_i P_i with fixed matrices P_i.

A (r, in) and B (out, r) are the frozen weight's first singular vectors, each scaled by the square root
of its singular value; P (u, r, r) is random; only the u numbers of v are trained. In peft modules may share
one v, which is impossible across a cut: here each module has its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import peft
import torch
from torch import Tensor, nn

from channel.core.rng import stream
from splitfl.adapters.kind import DEFAULT, AdapterKind, Factor, Targets, constant
from splitfl.adapters.singular import principal
from splitfl.config import SideConfig, at_least, group
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.quantised import is_shape_only

V: Final = ".tinylora_v.0"


class Parts(NamedTuple):
    """The frozen tensors of a module with TinyLoRA: A (r, in), B (out, r) and P (u, r, r)."""

    A: Tensor
    B: Tensor
    P: Tensor


@dataclass(frozen=True, kw_only=True)
class TinyLoraSettings:
    """In each module `trained_numbers` numbers are trained, between frozen factors of this `rank`."""

    rank: int = 8
    trained_numbers: int = 64
    modules: Targets = group(Targets)

    def __post_init__(self) -> None:
        at_least("adapter rank", self.rank, 1)
        at_least("adapter trained_numbers", self.trained_numbers, 1)


def parts(layer: nn.Module) -> Parts:
    """The frozen tensors of a module with TinyLoRA."""
    own: Any = layer
    return Parts(own.tinylora_A[DEFAULT], own.tinylora_B[DEFAULT], own.tinylora_P[DEFAULT])


def as_lora(layer: nn.Module, trained: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """The factors R A (r, in) and B (out, r)."""
    held = parts(layer)
    return torch.einsum("u,ujk->jk", trained[V], held.P.cpu()) @ held.A.cpu(), held.B.cpu()


def _inject(piece: Piece, ranks: Mapping[str, int], side: SideConfig) -> None:
    """Injects TinyLoRA into each module by a separate call of peft, so that no v is shared.

    The weights are on the meta device meanwhile: `_initialise` computes the singular vectors, once.
    Raises ConfigError if peft has no TinyLoRA, or another layout of it.
    """
    try:
        from peft import TinyLoraConfig, TinyLoraModel  # not in every supported version of peft
    except ImportError:
        raise _lacking() from None
    model, own = piece.model, side.of(TinyLoraSettings)
    for name in ranks:
        module = model.get_submodule(name)
        held = dict(module.named_parameters())
        model.__dict__.pop("peft_config", None)  # of the previous module
        settings = TinyLoraConfig(
            r=own.rank,
            u=own.trained_numbers,
            target_modules=[name],
            fan_in_fan_out=piece.family.fan_in_fan_out,
            save_projection=True,
        )
        module._parameters.update(
            {key: nn.Parameter(value.detach().to("meta"), requires_grad=False) for key, value in held.items()}
        )
        TinyLoraModel(model, settings, DEFAULT)  # type: ignore[no-untyped-call]
        module._parameters.update(held)
        layer: Any = model.get_submodule(name)
        if set(dict(layer.tinylora_v.named_parameters())) != {f"{DEFAULT}.0"}:
            raise _lacking()
        trained = torch.zeros(own.trained_numbers, device=model.device)
        layer.tinylora_v[DEFAULT]["0"] = nn.Parameter(trained)


def _initialise(piece: Piece, ranks: Mapping[str, int], side: SideConfig, seed: int) -> None:
    """Sets A and B of every module from its weight, and P from the seed and the module's name.

    P is normal with variance 1 / r as in peft. All are float32; for a shape-only piece they are zeros.
    """
    for name in ranks:
        layer = piece.model.get_submodule(name)
        base = layer.get_submodule("base_layer")
        own: Any = layer
        held = parts(layer)
        if is_shape_only(base):
            own.tinylora_A[DEFAULT], own.tinylora_B[DEFAULT], own.tinylora_P[DEFAULT] = (
                torch.zeros(part.shape) for part in held
            )
            continue
        rank = len(held.A)
        first, second = principal(base, rank)
        drawn = stream(seed, "tinylora", name).normal(0.0, rank**-0.5, tuple(held.P.shape)).astype(np.float32)
        own.tinylora_A[DEFAULT], own.tinylora_B[DEFAULT] = first, second
        own.tinylora_P[DEFAULT] = torch.from_numpy(drawn).to(first.device)


def _flops(layer: nn.Module, rows: int, flows_in: bool) -> tuple[int, int]:
    """R from v, then the projections to rank r, by R, and back."""
    held = parts(layer)
    sizes = held.A.numel(), len(held.A) ** 2, held.B.numel()
    made, to, by, back = (2 * n for n in (held.P.numel(), *(rows * one for one in sizes)))
    return made + to + by + back, made + by + back + (to + by) * int(flows_in)


def _lacking() -> ConfigError:
    return ConfigError(
        "adapters of kind 'tinylora' need a version of peft with TinyLoRA, such as 0.21.2; this is "
        f"{peft.__version__}"
    )


TINYLORA = AdapterKind(
    title="TinyLoRA",
    settings=TinyLoraSettings,
    factors={V: Factor("alone", constant(0.0))},
    inject=_inject,
    initialise=_initialise,
    flops=_flops,
    as_lora=as_lora,
    citation="""@article{morris2026learning,
  title = {Learning to Reason in 13 Parameters},
  author = {Morris, John X. and Mireshghallah, Niloofar and Ibrahim, Mark and Mahloujifar, Saeed},
  journal = {arXiv preprint arXiv:2602.04118},
  year = {2026}
}""",
)
