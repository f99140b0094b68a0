"""The clients' updates summed by the air itself: all send at once, and the server hears their mean.

Truncated channel inversion (Zhu et al., arXiv 1812.11494): whoever's channel is too weak stays
silent for the round, all others arrive alike. No update can be told from another, so what
needs them one by one is refused. A round costs as many symbols as one client's update.
"""

# K clients, D trainable numbers

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from channel.core.arrays import Array
from channel.core.rng import stream
from channel.core.units import db_to_ratio
from channel.phy.analog import AirComputation, complex_noise
from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Adapter
from splitfl.federation.averager import needs_individual_updates


@dataclass(frozen=True, kw_only=True)
class OverTheAir:
    """A `Merge`: the mean over those who took part, weighed by samples, with the air's noise.

    A client scales its numbers by its samples over the mean, and by the rms of everybody's numbers, on
    both of which they agreed; of the K' who took part each number carries noise of power
    (rms / K')^2 / eta, where eta = snr / E1(truncation). Where nobody takes part all is as it was.
    """

    seed: int
    air: AirComputation

    def __call__(self, updates: Sequence[Adapter]) -> dict[str, Tensor]:
        """What the updates come to; each must hold the same tensors."""
        names = sorted(updates[0].tensors)
        assert all(sorted(update.tensors) == names for update in updates), (
            "all clients train the same tensors"
        )
        values_KD = np.stack([_flat(update, names) for update in updates])
        share_K = np.asarray([update.samples for update in updates], dtype=np.float64)
        share_K /= share_K.mean()
        rng = stream(self.seed, "over-the-air", max(update.version for update in updates))
        gain_K = complex_noise(rng, (len(updates),), 1.0)
        weighed_KD = share_K[:, None] * values_KD
        scale = float(np.sqrt(np.mean(weighed_KD**2)))
        if not scale:
            return dict(updates[0].tensors)
        heard = self.air.mean(rng, weighed_KD, gain_K, scale=scale)
        if not heard.took_part_K.any():
            return {}
        mean_D = heard.mean_D / share_K[heard.took_part_K].mean()
        return _apart(mean_D, updates[0], names)


def over_the_air(config: RunConfig) -> OverTheAir | None:
    """The sum that these settings ask for; None where they want the updates one by one."""
    analog = config.analog
    if not analog.sum_adapters:
        return None
    if needs_individual_updates(config.federation):
        raise ConfigError(
            "analog.sum_adapters makes one sum of all updates, and federation.aggregator "
            f"{config.federation.aggregator!r} with robust {config.federation.robust!r} and its client_ranks "
            "needs them one by one"
        )
    snr = float(db_to_ratio(analog.snr_db))
    air = AirComputation(snr=snr, truncation=analog.truncation, phase_error_rad=analog.phase_error_rad)
    return OverTheAir(seed=config.train.seed, air=air)


def _flat(update: Adapter, names: Sequence[str]) -> Array:
    parts = [update.tensors[name].detach().cpu().double().flatten() for name in names]
    flat: Array = torch.cat(parts).numpy()
    return flat


def _apart(mean_D: Array, like: Adapter, names: Sequence[str]) -> dict[str, Tensor]:
    sizes = [like.tensors[name].numel() for name in names]
    parts = torch.split(torch.from_numpy(mean_D), sizes)
    return {
        name: part.reshape(like.tensors[name].shape).to(like.tensors[name].dtype)
        for name, part in zip(names, parts, strict=True)
    }
