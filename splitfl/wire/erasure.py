"""Erasure of rows of tokens: pure functions from sent to received messages.

A message's rows are those of its tensor along the last axis: one for each real token.
"""

# B batch, T tokens, D hidden, N rows: real tokens of a batch, L rows that are left

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import torch
from torch import Tensor

from splitfl.core.messages import Activation, Gradient, Output

_NOTHING: Final = -100  # the label that cross-entropy ignores

Pooled = Callable[[Activation], Tensor | None]
"""(B,) the index of the token from which each sample's class is read; None where every token predicts."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ReceivedActivation:
    """An activation as received, and its dependence on the sent one.

    `kept_N` (bool) are the remaining rows, `factor_N` the factor of each row: 0 if it does not depend on
    the sent row. They convert the gradient with respect to received rows to that of sent rows.
    """

    message: Activation
    kept_N: Tensor
    factor_N: Tensor


def rows(tensor: Tensor) -> Tensor:
    """(N, D): one row for each token."""
    return tensor.reshape(-1, tensor.shape[-1])


def real_tokens(message: Activation) -> Tensor:
    """(B, T) bool: the tokens of the hidden state's rows, in order."""
    assert message.hidden is not None
    mask_BT = message.context.get("mask")
    if mask_BT is not None:
        return mask_BT.bool()
    return torch.ones(message.hidden.shape[:2], dtype=torch.bool)


def without_tokens(message: Activation, arrived_N: Tensor, pooled: Pooled) -> ReceivedActivation | None:
    """`mask`: lost tokens are excluded from attention and loss.

    A sample whose pooled token is lost is dropped, and so is a language model's sample without a token to
    predict. None if no sample remains.
    """
    mask_BT = real_tokens(message)
    arrived_BT = torch.zeros_like(mask_BT)
    arrived_BT[mask_BT] = arrived_N
    pooled_B = pooled(message)
    labels = message.labels
    if pooled_B is not None:
        stays_B = arrived_BT.gather(1, pooled_B[:, None].to(torch.int64))[:, 0]
    else:
        assert labels is not None
        labels = labels.clone()
        labels[:, 1:][(mask_BT & ~arrived_BT)[:, :-1]] = _NOTHING
        stays_B = (labels[:, 1:] != _NOTHING).any(1) & arrived_BT.any(1)
    if not stays_B.any():
        return None
    kept_BT = arrived_BT & stays_B[:, None]
    kept_N = kept_BT[mask_BT]
    assert message.hidden is not None
    received = Activation(
        ids_B=message.ids_B[stays_B],
        hidden=rows(message.hidden)[kept_N],
        context={**_of(stays_B, message), "mask": kept_BT[stays_B]},
        labels=labels[stays_B] if labels is not None else None,
    )
    return ReceivedActivation(message=received, kept_N=kept_N, factor_N=kept_N.to(message.hidden.dtype))


def zeroed(rows_ND: Tensor, arrived_N: Tensor) -> Tensor:
    """`zero`: lost rows are replaced by zeros."""
    return rows_ND * arrived_N.to(rows_ND.dtype)[:, None]


def scale_of(arrived_N: Tensor) -> float:
    """`rescale`: 1 / (1 - p), where p is the share of lost rows in this message; one at least has arrived.

    For exchangeable losses the expectation of a row times this is the row, given the number of arrivals:
    E[m_i | sum m] = sum m / N. It needs no knowledge of the link's loss rate, and the sum over rows has
    less variance than with that rate.
    """
    return arrived_N.numel() / int(arrived_N.sum())


def with_rows(message: Activation, rows_ND: Tensor, factor_N: Tensor) -> ReceivedActivation:
    """The message with its rows replaced."""
    assert message.hidden is not None
    hidden = rows_ND.reshape(message.hidden.shape)
    kept_N = torch.ones(len(rows_ND), dtype=torch.bool)
    return ReceivedActivation(message=replace(message, hidden=hidden), kept_N=kept_N, factor_N=factor_N)


def without_samples(received: ReceivedActivation, stays_B: Tensor) -> ReceivedActivation | None:
    """The message with only these samples; None if no sample remains."""
    if bool(stays_B.all()):
        return received
    if not stays_B.any():
        return None
    message = received.message
    mask_BT = real_tokens(message)
    kept_N = (mask_BT & stays_B[:, None])[mask_BT]
    assert message.hidden is not None
    less = Activation(
        ids_B=message.ids_B[stays_B],
        hidden=rows(message.hidden)[kept_N],
        context={**_of(stays_B, message), "mask": mask_BT[stays_B]},
        labels=message.labels[stays_B] if message.labels is not None else None,
    )
    return ReceivedActivation(
        message=less, kept_N=kept_N, factor_N=received.factor_N * kept_N.to(received.factor_N.dtype)
    )


def gradient_of_sent(received: ReceivedActivation, sent: Activation, reply: Gradient) -> Gradient:
    """The gradient with respect to the sent rows: zero for a row that was not received."""
    assert sent.hidden is not None
    grad_LD = rows(reply.grad)
    grad_ND = grad_LD.new_zeros(len(received.kept_N), grad_LD.shape[-1])
    grad_ND[received.kept_N] = grad_LD
    grad_ND = grad_ND * received.factor_N.to(grad_ND.dtype)[:, None]
    return replace(reply, ids_B=sent.ids_B, grad=grad_ND.reshape(sent.hidden.shape))


def tensor_of(message: Activation | Output | Gradient) -> Tensor | None:
    """The tensor whose rows are tokens."""
    return message.grad if isinstance(message, Gradient) else message.hidden


def _of(stays_B: Tensor, message: Activation) -> dict[str, Tensor]:
    return {name: tensor[stays_B] for name, tensor in message.context.items() if name != "mask"}
