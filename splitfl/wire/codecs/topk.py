"""The numbers of largest magnitude in each row, with the gaps between their places.

The others are decoded to zero (sparsification: Aji & Heafield, EMNLP'17; Stich et al., NeurIPS'18). Gaps are
smaller than places, so that an entropy coder needs about log2 C(D, k) / k bits for each in place of log2 D.
"""

# D numbers in a row, K of them are sent, ... any axes before

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs.codec import Parts, Projection
from splitfl.wire.codecs.entropy import gap_type


def topk(fraction: float = 0.0, k: int = 0) -> Projection:
    """Keeps `k` numbers of each row, or of a shorter row all; or this fraction of a row, at least one.

    Raises ConfigError unless one of the two is given.
    """
    if (k > 0) == (fraction > 0.0) or k < 0 or not 0.0 <= fraction < 1.0:
        raise ConfigError(
            f"topk: needs either a fraction in (0, 1) or k of at least 1, got fraction={fraction:g} and k={k}"
        )

    def count(parts: Parts, width: int) -> int:
        return min(k, width) if k else max(1, round(fraction * width))

    def project(rows: Tensor) -> tuple[Tensor, Parts]:
        width = rows.shape[-1]
        places = rows.abs().topk(count({}, width), sorted=False).indices.sort(-1).values
        before = torch.nn.functional.pad(places[..., :-1], (1, 0), value=-1)
        return rows.gather(-1, places), {"gaps": (places - before - 1).to(gap_type(width))}

    def leading(parts: Parts, short_axes: Sequence[int], width: int) -> Sequence[int]:
        return short_axes

    def restore(left: Tensor, parts: Parts, width: int) -> Tensor:
        gaps = parts["gaps"]
        if gaps.dtype != gap_type(width) or gaps.shape != left.shape:
            raise WireError(
                f"gaps of {[*left.shape]} numbers must be {gap_type(width)}, got {gaps.dtype} {[*gaps.shape]}"
            )
        places = (gaps.to(torch.int64) + 1).cumsum(-1) - 1
        if bool((gaps < 0).any()) or bool((places[..., -1:] >= width).any()):
            raise WireError(f"gaps must lead to places below {width}")
        return torch.zeros((*left.shape[:-1], width), dtype=left.dtype).scatter_(-1, places, left)

    def unit_bytes(width: int) -> int:
        return count({}, width) * gap_type(width).itemsize

    return Projection(
        about="the largest numbers of each row and the gaps between them",
        with_options=topk,
        parts=("gaps",),
        width=count,
        project=project,
        leading=leading,
        restore=restore,
        unit_bytes=unit_bytes,
        gaps="gaps",
    )


TOPK: Final = topk(fraction=0.05)
