"""The rows of a message at the cut: a padded batch (B, T, D) as its N real tokens (N, D), and back."""

# B batch, T tokens, D hidden, N real tokens of the batch

from torch import Tensor


def pack(hidden_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
    """The rows (N, D) of the tokens that are not padding; without a mask the tensor as it is.

    No result at a real token depends on padding, so nothing that matters is left out.
    """
    return hidden_BTD if mask_BT is None else hidden_BTD[mask_BT.bool()]


def unpack(hidden_ND: Tensor, mask_BT: Tensor | None) -> Tensor:
    """The inverse of `pack`: (B, T, D) with zeros at padding; without a mask the tensor as it is."""
    if mask_BT is None:
        return hidden_ND
    hidden_BTD = hidden_ND.new_zeros(*mask_BT.shape, hidden_ND.shape[-1])
    hidden_BTD[mask_BT.bool()] = hidden_ND
    return hidden_BTD
