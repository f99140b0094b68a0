"""The input of the body, and several of them as one batch."""

# B batch, T tokens, D hidden

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.data.loader import NOTHING_TO_PREDICT
from splitfl.methods.parts.label_counts import are_token_labels


@dataclass(frozen=True, kw_only=True, eq=False)
class BodyBatch:
    """The hidden states (B, T, D) of a batch, with their context and labels as in an `Activation`."""

    hidden_BTD: Tensor
    context: Mapping[str, Tensor]
    labels: Tensor


def joined(batches: Sequence[BodyBatch]) -> BodyBatch:
    """One batch of all samples in this order, padded on the right to the longest sequence and labels.

    The mask leaves out the padding, labels there are -100. Raises WireError for batches with different
    entries in their contexts.
    """
    tokens = max(one.hidden_BTD.shape[1] for one in batches)
    names = batches[0].context.keys() - {"mask"}
    for one in batches:
        if (own := one.context.keys() - {"mask"}) != names:
            raise WireError(
                f"activations in one batch must have the same context, got {sorted(own)} and {sorted(names)}"
            )
    context = {name: _together([one.context[name] for one in batches], tokens) for name in sorted(names)}
    mask_BT = torch.cat([_padded(_mask(one), tokens, 0) for one in batches])
    if not bool(mask_BT.all()):  # omitted without padding, as in messages
        context["mask"] = mask_BT
    labels = [one.labels for one in batches]
    if are_token_labels(labels[0]):
        width = max(one.shape[1] for one in labels)
        labels = [_padded(one, width, NOTHING_TO_PREDICT) for one in labels]
    hidden_BTD = torch.cat([_padded(one.hidden_BTD, tokens, 0) for one in batches])
    return BodyBatch(hidden_BTD=hidden_BTD, context=context, labels=torch.cat(labels))


def _mask(batch: BodyBatch) -> Tensor:
    mask_BT = batch.context.get("mask")
    return torch.ones(batch.hidden_BTD.shape[:2], dtype=torch.bool) if mask_BT is None else mask_BT.bool()


def _together(tensors: Sequence[Tensor], tokens: int) -> Tensor:
    """Entries (B,) of samples, or (B, T) of tokens with zeros at the padding."""
    return torch.cat([_padded(one, tokens, 0) if one.ndim > 1 else one for one in tensors])


def _padded(tensor: Tensor, length: int, value: float) -> Tensor:
    """The tensor (B, T, ...) with T = `length`."""
    missing = length - tensor.shape[1]
    if not missing:
        return tensor
    return torch.nn.functional.pad(tensor, (0, 0) * (tensor.ndim - 2) + (0, missing), value=value)
