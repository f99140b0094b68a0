"""What lost packets mean to rows of tokens: pure functions from what was sent to what is heard.

A message's rows are those of its tensor, the last axis taken for a row: one for each real token.
"""

# B batch, T tokens, D hidden, N rows: real tokens of a batch, L rows that are left

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from splitfl.core.messages import Activation, Gradient, Output

_NOTHING: Final = -100  # what a language model's loss leaves out

Pooled = Callable[[Activation], Tensor | None]
"""(B,) the index of the token from which each sample's class is read; None where every token predicts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Heard:
    """A message as it is heard, and how it depends on the one that was sent.

    `kept_N` says which rows are left, `factor_N` what a row was multiplied by: 0 where it is not the
    sender's any more. By these two the gradient of what was heard becomes that of what was sent.
    """

    message: Activation
    kept_N: Tensor
    factor_N: Tensor


def rows(tensor: Tensor) -> Tensor:
    """(N, D): one row for each token."""
    return tensor.reshape(-1, tensor.shape[-1])


def real_tokens(message: Activation) -> Tensor:
    """(B, T) bool: the tokens that the rows of the hidden state stand for, in their order."""
    assert message.hidden is not None
    mask_BT = message.context.get("mask")
    if mask_BT is not None:
        return mask_BT.bool()
    return torch.ones(message.hidden.shape[:2], dtype=torch.bool)


def without_tokens(message: Activation, arrived_N: Tensor, pooled: Pooled) -> Heard | None:
    """`mask`: a lost token is out of the attention, and no term of the loss is read from it.

    A sample whose class would be read from a lost token leaves the batch, a language model's that has
    nothing left to predict too. None where no sample is left.
    """
    mask_BT = real_tokens(message)
    there_BT = torch.zeros_like(mask_BT)
    there_BT[mask_BT] = arrived_N
    pooled_B = pooled(message)
    labels = message.labels
    if pooled_B is not None:
        stays_B = there_BT.gather(1, pooled_B[:, None].to(torch.int64))[:, 0]
    else:
        assert labels is not None
        labels = labels.clone()
        labels[:, 1:][(mask_BT & ~there_BT)[:, :-1]] = _NOTHING
        stays_B = (labels[:, 1:] != _NOTHING).any(1) & there_BT.any(1)
    if not stays_B.any():
        return None
    kept_BT = there_BT & stays_B[:, None]
    kept_N = kept_BT[mask_BT]
    assert message.hidden is not None
    heard = Activation(
        ids_B=message.ids_B[stays_B],
        hidden=rows(message.hidden)[kept_N],
        context={**_of(stays_B, message), "mask": kept_BT[stays_B]},
        labels=labels[stays_B] if labels is not None else None,
    )
    return Heard(message=heard, kept_N=kept_N, factor_N=kept_N.to(message.hidden.dtype))


def zeroed(rows_ND: Tensor, arrived_N: Tensor) -> Tensor:
    """`zero`: lost rows are zeros."""
    return rows_ND * arrived_N.to(rows_ND.dtype)[:, None]


def scale_of(arrived_N: Tensor) -> float:
    """1 / (1 - p), where p is the share of this message's own rows that were lost; some must have come.

    Rows that are lost alike make the expectation of a row times this the row itself, given that some came:
    E[m_i | sum m] = sum m / N. It needs no knowledge of the link, whose loss rate may be nobody's guess,
    and leaves the sum over rows with less variance than the link's own rate would.
    """
    return arrived_N.numel() / int(arrived_N.sum())


def rescaled(rows_ND: Tensor, arrived_N: Tensor) -> Tensor:
    """`rescale`: lost rows are zeros, the others grow so that the mean over losses is what was sent."""
    return zeroed(rows_ND, arrived_N) * scale_of(arrived_N)


def with_rows(message: Activation, rows_ND: Tensor, factor_N: Tensor) -> Heard:
    """The message with other rows in the places of its own."""
    assert message.hidden is not None
    hidden = rows_ND.reshape(message.hidden.shape)
    kept_N = torch.ones(len(rows_ND), dtype=torch.bool)
    return Heard(message=replace(message, hidden=hidden), kept_N=kept_N, factor_N=factor_N)


def without_samples(heard: Heard, stays_B: Tensor) -> Heard | None:
    """The message without these samples; None where no sample is left."""
    if bool(stays_B.all()):
        return heard
    if not stays_B.any():
        return None
    message = heard.message
    mask_BT = real_tokens(message)
    kept_N = (mask_BT & stays_B[:, None])[mask_BT]
    assert message.hidden is not None
    less = Activation(
        ids_B=message.ids_B[stays_B],
        hidden=rows(message.hidden)[kept_N],
        context={**_of(stays_B, message), "mask": mask_BT[stays_B]},
        labels=message.labels[stays_B] if message.labels is not None else None,
    )
    return Heard(message=less, kept_N=kept_N, factor_N=heard.factor_N * kept_N.to(heard.factor_N.dtype))


def gradient_of_sent(heard: Heard, sent: Activation, reply: Gradient) -> Gradient:
    """The gradient with respect to what was sent: nothing for a row of which nothing was heard."""
    assert sent.hidden is not None
    grad_LD = rows(reply.grad)
    grad_ND = grad_LD.new_zeros(len(heard.kept_N), grad_LD.shape[-1])
    grad_ND[heard.kept_N] = grad_LD
    grad_ND = grad_ND * heard.factor_N.to(grad_ND.dtype)[:, None]
    return replace(reply, ids_B=sent.ids_B, grad=grad_ND.reshape(sent.hidden.shape))


def tensor_of(message: Activation | Output | Gradient) -> Tensor | None:
    """The tensor whose rows are tokens."""
    return message.grad if isinstance(message, Gradient) else message.hidden


def _of(stays_B: Tensor, message: Activation) -> dict[str, Tensor]:
    return {name: tensor[stays_B] for name, tensor in message.context.items() if name != "mask"}
