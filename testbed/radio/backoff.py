"""Bursts at a level that fits a radio's full scale.

Axes: B samples of a burst.
"""

import numpy as np

from channel.core.units import db_to_ratio
from channel.iq.delay_filters import Samples
from channel.iq.sample_format import SampleFormat
from splitfl.core.errors import ConfigError

_MOST_CLIPPED = 1e-3


def scaled(burst_B: Samples, backoff_db: float, form: SampleFormat) -> Samples:
    """The burst `backoff_db` lower.

    OFDM has peaks about 10 dB above its mean power. Raises ConfigError if more than 0.1 % of the samples
    do not fit into the format.
    """
    if backoff_db:
        burst_B = burst_B * np.float32(np.sqrt(db_to_ratio(-backoff_db)))
    clipped = form.clipped_share(burst_B)
    if clipped > _MOST_CLIPPED:
        raise ConfigError(
            f"{100.0 * clipped:.1f} % of a burst's samples are beyond full scale: "
            f"backoff_db = {backoff_db:g} is too low (12 fits the packet modem)"
        )
    return burst_B
