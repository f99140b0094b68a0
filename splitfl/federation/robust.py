"""Byzantine-robust aggregation: coordinate-wise median and trimmed mean, and norm clipping of updates."""

# K clients

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from splitfl.core.messages import Adapter


def median(updates: Sequence[Adapter]) -> dict[str, Tensor]:
    """The coordinate-wise median over clients, unweighted (Yin et al., ICML'18, definition 1)."""
    return {name: _middle(values_K, (len(values_K) - 1) // 2) for name, values_K in _sorted(updates)}


def trimmed_mean(updates: Sequence[Adapter], trim: float) -> dict[str, Tensor]:
    """The coordinate-wise mean without the `trim` K largest and smallest values (ibid., definition 2)."""
    return {name: _middle(values_K, int(trim * len(values_K))) for name, values_K in _sorted(updates)}


def clipped(updates: Sequence[Adapter], held: Mapping[str, Tensor], norm: float) -> list[Adapter]:
    """The updates, their differences to `held` clipped to an L2 norm of `norm` (Sun et al., 2019)."""
    return [_shortened(one, held, norm) for one in updates]


def _shortened(update: Adapter, held: Mapping[str, Tensor], norm: float) -> Adapter:
    moves = {name: value.double() - held[name].double() for name, value in update.tensors.items()}
    length = float(torch.stack([move.square().sum() for move in moves.values()]).sum().sqrt())
    share = min(1.0, norm / length) if length else 1.0
    tensors = {
        name: (held[name].double() + share * move).to(update.tensors[name].dtype)
        for name, move in moves.items()
    }
    return Adapter(version=update.version, samples=update.samples, losses=update.losses, tensors=tensors)


def _sorted(updates: Sequence[Adapter]) -> list[tuple[str, Tensor]]:
    names = dict.fromkeys(name for one in updates for name in one.tensors)
    return [
        (name, torch.stack([one.tensors[name] for one in updates if name in one.tensors]).sort(dim=0).values)
        for name in names
    ]


def _middle(sorted_K: Tensor, cut: int) -> Tensor:
    """The mean over K without the first and the last `cut` values."""
    return sorted_K[cut : len(sorted_K) - cut].double().mean(dim=0).to(sorted_K.dtype)
