"""The tokens whose embeddings, or other rows, are nearest to given vectors."""

# N vectors, V vocabulary, D hidden, E width of the embedding

from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor

from splitfl.models.cut import Piece
from splitfl.privacy.observation import ObservedSample

_MOST_VALUES = 1 << 24
"""Distances that are in memory at a time."""


def embedding_of(head: Piece) -> Tensor:
    """The token embeddings (V, E) of a client's first piece, float32."""
    table = cast(Tensor, head.base.get_input_embeddings().weight)
    return table.detach().float()


def nearest_rows(vectors_NE: Tensor, rows_VE: Tensor, count: int = 1) -> Tensor:
    """The indices (N, `count`) of the rows of least Euclidean distance, nearest first."""
    half_V = rows_VE.square().sum(-1) / 2
    step = max(1, _MOST_VALUES // len(rows_VE))
    parts = [
        (vectors_NE[start : start + step] @ rows_VE.T - half_V).topk(count).indices
        for start in range(0, len(vectors_NE), step)
    ]
    return torch.cat(parts) if parts else torch.empty(0, count, dtype=torch.int64)


def hidden_rows(samples: Sequence[ObservedSample], device: torch.device) -> Tensor:
    """The hidden states (N, D) of all samples, one after the other, float32."""
    return torch.cat([sample.hidden_TD for sample in samples]).float().to(device)


def by_sample(tokens_N: Tensor, samples: Sequence[ObservedSample]) -> tuple[Tensor, ...]:
    """Tokens of `hidden_rows` by sample, on the CPU."""
    return torch.split(tokens_N.cpu(), [len(sample.places_T) for sample in samples])
