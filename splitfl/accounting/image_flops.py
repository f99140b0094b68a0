"""FLOPs of a step of a convolutional piece, counted by torch on the meta device.

Convolutions and linear layers are counted as in flops.py, 2 per multiply-add. A convolution with groups
takes as many for the gradient of its weight as forward, where torch counts one without groups.
"""

# B batch, C channels, H height, W width, T places

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count

from splitfl.models.cut import Piece
from splitfl.models.feature_maps import places


def image_flops(piece: Piece, batch: int, *, flows: bool) -> tuple[float, float]:
    """FLOPs forward and backward of a step on B images; `flows`: the input needs a gradient."""
    empty = _without_values(piece)
    config = piece.block_config
    x: Tensor | dict[str, Tensor]
    if piece.is_first:
        size = config.image_size
        x = {"pixel_values": torch.zeros(batch, config.num_channels, size, size, device="meta")}
    else:
        x = torch.zeros(batch, *places(config, piece.blocks.start), device="meta", requires_grad=flows)
    labels = torch.zeros(batch, dtype=torch.int64, device="meta") if piece.is_last else None
    forward = FlopCounterMode(display=False)
    backward = FlopCounterMode(
        display=False, custom_mapping={torch.ops.aten.convolution_backward: _convolution_backward}
    )
    with torch.enable_grad():
        with forward:
            output = Piece.forward(empty, x, {}, labels)  # also for a shape-only piece
        result = output.loss if piece.is_last else output.sum()
        if result.requires_grad:
            with backward:
                result.backward()
    return float(forward.get_total_flops()), float(backward.get_total_flops())


def _convolution_backward(
    grad_shape: Sequence[int], x_shape: Sequence[int], weight_shape: Sequence[int], *args: Any, **kwargs: Any
) -> int:
    transposed, output_mask = args[4], args[7]
    forward = int(conv_flop_count(list(x_shape), list(weight_shape), list(grad_shape), transposed))
    return forward * (int(output_mask[0]) + int(output_mask[1]))


def _without_values(piece: Piece) -> Piece:
    """A copy of the piece on the meta device."""
    empty: dict[int, object] = {
        id(value): nn.Parameter(torch.empty_like(value, device="meta"), requires_grad=value.requires_grad)
        for value in piece.parameters()
    }
    empty |= {id(value): torch.empty_like(value, device="meta") for value in piece.buffers()}
    return copy.deepcopy(piece, empty)
