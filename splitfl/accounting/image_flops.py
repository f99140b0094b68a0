"""FLOPs of a step of a convolutional piece, counted by torch on the meta device.

Convolutions and linear layers are counted as in flops.py, 2 per multiply-add.
"""

# B batch, C channels, H height, W width, T places

import copy

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from splitfl.models.cut import Piece
from splitfl.models.feature_maps import places


def image_flops(piece: Piece, batch: int, *, flows: bool) -> tuple[float, float]:
    """FLOPs forward and backward of a step on B images; `flows`: the input needs a gradient."""
    empty = _without_values(piece)
    config = piece.model.config
    x: Tensor | dict[str, Tensor]
    if piece.is_first:
        size = config.image_size
        x = {"pixel_values": torch.zeros(batch, config.num_channels, size, size, device="meta")}
    else:
        x = torch.zeros(batch, *places(config, piece.blocks.start), device="meta", requires_grad=flows)
    labels = torch.zeros(batch, dtype=torch.int64, device="meta") if piece.is_last else None
    forward, backward = FlopCounterMode(display=False), FlopCounterMode(display=False)
    with torch.enable_grad():
        with forward:
            output = Piece.forward(empty, x, {}, labels)  # also for a shape-only piece
        result = output.loss if piece.is_last else output.sum()
        if result.requires_grad:
            with backward:
                result.backward()
    return float(forward.get_total_flops()), float(backward.get_total_flops())


def _without_values(piece: Piece) -> Piece:
    """A copy of the piece on the meta device."""
    empty: dict[int, object] = {
        id(value): nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
        for value in piece.parameters()
    }
    empty |= {id(value): torch.empty_like(value, device="meta") for value in piece.buffers()}
    return copy.deepcopy(piece, empty)
