"""The auxiliary model: a small network above the cut that replaces the server's body in local training.

It consists of the model's last `method.auxiliary_blocks` blocks, final norm and output layer, with adapters
of its own; its input is the hidden state at the cut. With as many blocks as the body it equals the body.
In messages the names of its tensors have the prefix `auxiliary.`.
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
from splitfl.models.families import CAUSAL_LM, SEQ2SEQ_LM

PREFIX: Final = "auxiliary."
_ROUNDING: Final = 1e-6
_DOUBLE_BACKWARD: Final = 3  # a training step, and the backward pass through it with two products for each


@dataclass(frozen=True, kw_only=True)
class Auxiliary:
    """The auxiliary model has the model's last `auxiliary_blocks` blocks and its output layer.

    The activations of every `upload_interval`-th batch of a round are sent to the server.
    """

    auxiliary_blocks: int = 0
    upload_interval: int = 1

    def __post_init__(self) -> None:
        at_least("method.auxiliary_blocks", self.auxiliary_blocks, 0)
        at_least("method.upload_interval", self.upload_interval, 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class AlignmentSample:
    """One batch at the cut, and the server's gradient of the loss with respect to it.

    `hidden_BTD` and `grad_BTD` are (B, T, D), `labels` (B,) or (B, T); all are on the auxiliary's device.
    """

    hidden_BTD: Tensor
    context: Mapping[str, Tensor]
    labels: Tensor
    grad_BTD: Tensor


def refuse_auxiliary(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for an auxiliary with more blocks than the body, or without a trainable tensor."""
    if kind == SEQ2SEQ_LM:
        raise ConfigError(
            f"the method {config.method.name!r} is not for encoder-decoders: its auxiliary network at the "
            "client would hold the whole decoder"
        )
    blocks, above = config.method.of(Auxiliary).auxiliary_blocks, num_blocks - config.partition.cut
    if blocks > above:
        raise ConfigError(
            f"method.auxiliary_blocks must be at most the {above} blocks above the cut, got {blocks}"
        )
    if kind == CAUSAL_LM and not blocks:
        raise ConfigError(
            f"the method {config.method.name!r} needs method.auxiliary_blocks of at least 1 for a language "
            "model, whose LM head is not trained; got 0"
        )


def with_prefix(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An auxiliary's tensors by their names in messages."""
    return {f"{PREFIX}{name}": value for name, value in tensors.items()}


def split_auxiliary(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The head's tensors, and the auxiliary's with the prefix removed."""
    head = {name: value for name, value in tensors.items() if not name.startswith(PREFIX)}
    return head, {n.removeprefix(PREFIX): value for n, value in tensors.items() if n not in head}


def align(auxiliary: Piece, samples: Sequence[AlignmentSample], passes: int, lr: float) -> float:
    """Aligns the auxiliary's gradients at the cut with the server's, in place; returns the FLOPs.

    Equation 7 of FSL-SAGE (Nair et al., ICML'25), `passes` times over the samples. Departures from the
    paper: each squared error is divided by the squared norm of the true gradient, which keeps the minimum
    and makes AdamW's epsilon negligible; AdamW starts with new moments, so the result depends on the
    arguments alone; an error at rounding level is skipped, since AdamW would take full-length steps for it.
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
            flops += _DOUBLE_BACKWARD * cost(auxiliary, *sample.hidden_BTD.shape[:2]).step_flops
    optimiser.zero_grad(set_to_none=True)
    return flops


def relative_error(got_BTD: Tensor, true_BTD: Tensor) -> Tensor:
    """||got - true||^2 / ||true||^2 in float32; a scalar that can be differentiated."""
    true_BTD = true_BTD.float()
    least = torch.finfo(torch.float32).tiny
    return (got_BTD.float() - true_BTD).square().sum() / true_BTD.square().sum().clamp_min(least)
