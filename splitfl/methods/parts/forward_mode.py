"""Forward-mode differentiation: the exact directional derivative of a piece in one forward pass."""

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
"""A function of a piece, or of a callable that evaluates it at other parameter values."""


def tangent(
    piece: Piece, function: Function, values: Mapping[str, Tensor], moves: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """The function at the parameters `values`, and its Jacobian-vector product with `moves`; no graph.

    Both mappings are by parameter path in the piece (see `paths`), with tensors of the same shapes.
    """

    def at(parameters: dict[str, Tensor]) -> Tensor:
        return function(lambda *inputs: functional_call(piece, parameters, inputs))

    with torch.no_grad():
        found = jvp(at, (dict(values),), (dict(moves),))
    return found[0], found[1]


def paths(piece: Piece) -> dict[str, str]:
    """Each trainable tensor's path in the piece, by its name in the unsplit model."""
    by_identity = {id(value): path for path, value in piece.named_parameters()}
    return {name: by_identity[id(value)] for name, value in trainable(piece).items()}


def refuse_fused_attention(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for an attention implementation without a forward-mode derivative."""
    if config.model.attention != "eager":
        raise ConfigError(
            f"forward mode ('jvp') needs model.attention 'eager', got {config.model.attention!r}, "
            "which has no forward derivative"
        )
