"""The principal singular vectors of a frozen weight, from which some kinds start."""

import torch
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from splitfl.models.quantised import weight_of


def principal(layer: nn.Module, rank: int) -> tuple[Tensor, Tensor]:
    """The truncated SVD of a linear module's weight as factors A (r, in) and B (out, r), on its device.

    Each factor has the square root of the singular values. Computed on the CPU in float32, with the largest
    element in each row of A positive: the sign of a pair of singular vectors is arbitrary and differs between
    machines.
    """
    weight = weight_of(layer)
    matrix = (weight.T if isinstance(layer, Conv1D) else weight).cpu().float()
    u, values, v = torch.linalg.svd(matrix, full_matrices=False)
    u, values, v = u[:, :rank], values[:rank], v[:rank]
    largest = v.gather(1, v.abs().argmax(1, keepdim=True))
    scale = values.sqrt() * torch.where(largest < 0, -1.0, 1.0)[:, 0]
    return (scale[:, None] * v).contiguous().to(weight.device), (u * scale).contiguous().to(weight.device)
