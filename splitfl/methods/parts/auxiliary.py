"""A small network above the cut that stands in for the server's body.

It is the model's own top: its last `method.auxiliary_blocks` blocks and what stands on
them, with adapters of its own, fed with the hidden state at the cut. With as many blocks
as the body it is the body. In messages its tensors' names begin with `auxiliary.`.
"""

# B batch, T tokens, D hidden

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from splitfl.accounting.flops import cost
from splitfl.adapters.inject import trainable
from splitfl.config import RunConfig, at_least
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.models.families import CAUSAL_LM

PREFIX: Final = "auxiliary."
_ROUNDING: Final = 1e-6
_TWICE: Final = 3  # forward and backward, and a backward pass through both with its two products for each


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """An auxiliary has the model's last `auxiliary_blocks` blocks and what stands on them.

    With one, every `upload_interval`-th batch of a round goes up.
    """

    auxiliary_blocks: int = 0
    upload_interval: int = 1

    def __post_init__(self) -> None:
        at_least("method.auxiliary_blocks", self.auxiliary_blocks, 0)
        at_least("method.upload_interval", self.upload_interval, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentSample:
    """One batch at the cut, and what the server found the loss's gradient there to be."""

    hidden_BTD: Tensor
    context: Mapping[str, Tensor]
    labels: Tensor
    grad_BTD: Tensor


def refuse_auxiliary(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for an auxiliary larger than what it stands for, or with nothing to train."""
    blocks, above = config.method.of(Auxiliary).auxiliary_blocks, num_blocks - config.partition.cut
    if blocks > above:
        raise ConfigError(
            f"method.auxiliary_blocks must be at most the {above} blocks above the cut, got {blocks}"
        )
    if kind == CAUSAL_LM and not blocks:
        raise ConfigError(
            f"the method {config.method.name!r} needs method.auxiliary_blocks of at least 1 for a language "
            "model, whose own head is not trained; got 0"
        )


def with_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An auxiliary's tensors by the names that they travel under."""
    return {f"{PREFIX}{name}": value for name, value in tensors.items()}


def split_auxiliary(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What is the head's, and what is the auxiliary's by its own names."""
    head = {name: value for name, value in tensors.items() if not name.startswith(PREFIX)}
    return head, {n.removeprefix(PREFIX): value for n, value in tensors.items() if n not in head}


def align(auxiliary: Piece, samples: Sequence[AlignmentSample], passes: int, lr: float) -> float:
    """Trains the auxiliary so that its gradients at the cut become the server's; the FLOPs it took.

    FSL-SAGE's equation 7 (Nair et al., ICML'25). We divide a batch's squared error by the
    squared norm of its true gradient: the minimum is the same, and AdamW's epsilon stays
    small beside it. AdamW begins anew each time, so an alignment depends on nothing else. An
    error of rounding alone moves nothing, where AdamW would take whole steps for it.
    """
    parameters = list(trainable(auxiliary).values())
    optimiser = torch.optim.AdamW(parameters, lr=lr, weight_decay=0.0)
    flops = 0.0
    for _ in range(passes):
        for sample in samples:
            hidden_BTD = sample.hidden_BTD.detach().requires_grad_()
            with sdpa_kernel(SDPBackend.MATH):  # fused attention cannot be differentiated twice
                loss = auxiliary(hidden_BTD, sample.context, sample.labels).loss
                (estimate_BTD,) = torch.autograd.grad(loss, hidden_BTD, create_graph=True)
                error = relative_error(estimate_BTD, sample.grad_BTD)
                grads = torch.autograd.grad(error, parameters, allow_unused=True)
            if error.item() > _ROUNDING:
                for parameter, grad in zip(parameters, grads, strict=True):
                    parameter.grad = grad
                optimiser.step()
            flops += _TWICE * cost(auxiliary, *sample.hidden_BTD.shape[:2]).step_flops
    optimiser.zero_grad(set_to_none=True)
    return flops


def relative_error(got_BTD: Tensor, true_BTD: Tensor) -> Tensor:
    """||got - true||^2 / ||true||^2."""
    true_BTD = true_BTD.float()
    least = torch.finfo(torch.float32).tiny
    return (got_BTD.float() - true_BTD).square().sum() / true_BTD.square().sum().clamp_min(least)
