"""Over-the-air aggregation: clients send their updates simultaneously and the server receives the mean.

Truncated channel inversion (Zhu et al., arXiv 1812.11494): clients with a weak channel do not send in
this round, all others arrive with equal power. Individual updates are not available, so aggregators that
need them are refused. A round costs as many symbols as one client's update.
"""

# K clients, D trainable parameters

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
    """A `Merge`: the sample-weighted mean over the participating clients, with channel noise.

    A client scales its values by its samples over the mean number of samples, and by the rms of all
    clients' values, both known to all clients. With K' participants each value has noise of power
    (rms / K')^2 / eta, where eta = snr / E1(truncation). Without participants nothing changes.
    """

    seed: int
    air: AirComputation

    def __call__(self, updates: Sequence[Adapter]) -> dict[str, Tensor]:
        """The noisy mean of the updates, which must all contain the same tensors."""
        names = sorted(updates[0].tensors)
        assert all(sorted(update.tensors) == names for update in updates), (
            "all clients train the same tensors"
        )
        values_KD = np.stack([_flat(update, names) for update in updates])
        share_K = np.asarray([update.samples for update in updates], dtype=np.float64)
        share_K /= share_K.mean()
        rng = stream(self.seed, "over-the-air", max(update.version for update in updates))
        gain_K = complex_noise(rng, (len(updates),), 1.0)
        weighted_KD = share_K[:, None] * values_KD
        scale = float(np.sqrt(np.mean(weighted_KD**2)))
        if not scale:
            return dict(updates[0].tensors)
        received = self.air.mean(rng, weighted_KD, gain_K, scale=scale)
        if not received.took_part_K.any():
            return {}
        mean_D = received.mean_D / share_K[received.took_part_K].mean()
        return _unflatten(mean_D, updates[0], names)


def over_the_air(config: RunConfig) -> OverTheAir | None:
    """The over-the-air merge of these settings; None without `analog.sum_adapters`. Raises ConfigError."""
    analog = config.analog
    if not analog.sum_adapters:
        return None
    if needs_individual_updates(config.federation):
        raise ConfigError(
            "analog.sum_adapters provides only the sum of all updates, but federation.aggregator "
            f"{config.federation.aggregator!r} with robust {config.federation.robust!r} and its client_ranks "
            "needs individual updates"
        )
    snr = float(db_to_ratio(analog.snr_db))
    air = AirComputation(snr=snr, truncation=analog.truncation, phase_error_rad=analog.phase_error_rad)
    return OverTheAir(seed=config.train.seed, air=air)


def _flat(update: Adapter, names: Sequence[str]) -> Array:
    parts = [update.tensors[name].detach().cpu().double().flatten() for name in names]
    flat: Array = torch.cat(parts).numpy()
    return flat


def _unflatten(mean_D: Array, like: Adapter, names: Sequence[str]) -> dict[str, Tensor]:
    sizes = [like.tensors[name].numel() for name in names]
    parts = torch.split(torch.from_numpy(mean_D), sizes)
    return {
        name: part.reshape(like.tensors[name].shape).to(like.tensors[name].dtype)
        for name, part in zip(names, parts, strict=True)
    }
