"""A piece as a function of its parameters, and its exact derivative along a direction in one forward pass."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.func import functional_call, jvp

from splitfl.adapters.inject import trainable
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece

Function = Callable[[Callable[..., Any]], Tensor]
"""From a piece, or a stand-in with other values, to what it is differentiated by."""


def tangent(
    piece: Piece, function: Function, values: Mapping[str, Tensor], moves: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The function with these parameters, by their paths in the piece, and its derivative along `moves`."""

    def at(moved: dict[str, Tensor]) -> Tensor:
        return function(lambda *inputs: functional_call(piece, moved, inputs))

    with torch.no_grad():
        found = jvp(at, (dict(values),), (dict(moves),))
    return found[0], found[1]


def paths(piece: Piece) -> dict[str, str]:
    """Each trainable tensor's path in the piece, by its name in the unsplit model."""
    by_identity = {id(value): path for path, value in piece.named_parameters()}
    return {name: by_identity[id(value)] for name, value in trainable(piece).items()}


def refuse_fused_attention(config: RunConfig, kind: str, num_blocks: int) -> None:
    """Refuses forward mode where it has no rule for attention; ConfigError."""
    if config.model.attention != "eager":
        raise ConfigError(
            f"forward mode ('jvp') needs model.attention 'eager', got {config.model.attention!r}, "
            "which has no forward derivative"
        )
