"""Thermal noise in a receiver's band."""

from channel.core.arrays import Array, Real, above, at_least
from channel.core.units import db_to_ratio, w_to_dbm

BOLTZMANN_J_K = 1.380649e-23
REFERENCE_K = 290.0
"""The temperature at which a noise figure is defined (IEEE Std 161)."""


def noise_w(bandwidth_hz: Real, *, noise_figure_db: Real = 0.0) -> Array:
    """The power k T0 B F of white noise referred to the antenna, with T0 = 290 K.

    Raises BadParameter unless the bandwidth is above 0 and the noise figure at least 0 dB.
    """
    figure: Array = db_to_ratio(at_least("noise_figure_db", noise_figure_db, 0.0))
    power_w: Array = BOLTZMANN_J_K * REFERENCE_K * above("bandwidth_hz", bandwidth_hz, 0.0) * figure
    return power_w


def noise_dbm(bandwidth_hz: Real, *, noise_figure_db: Real = 0.0) -> Array:
    """-173.975 dBm/Hz + 10 log10 B + NF; errors as in `noise_w`."""
    return w_to_dbm(noise_w(bandwidth_hz, noise_figure_db=noise_figure_db))
