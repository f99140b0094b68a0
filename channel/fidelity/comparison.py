"""Two rungs of fidelity: the law against the receiver in white noise, and EESM against it behind taps."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from channel.fidelity.multipath import FLAT, THREE_TAPS, Multipath
from channel.fidelity.packets import TARGET, Measured, PacketPoint, code_blocks, measured_point
from channel.phy.block_error import BlockErrorLaw
from channel.phy.effective_sinr import eesm_db
from channel.waveform.layout import MCS_TABLE
from channel.waveform.numerology import SMALLEST

_LAW = BlockErrorLaw.of(MCS_TABLE)


@dataclass(frozen=True, kw_only=True)
class MeasuredScheme:
    """The SNRs in decibels of one scheme at which one packet in ten is lost.

    `law_db` by the block error law of the ideal receiver, `flat_db` measured in white noise; `eesm_db`
    predicted from that for THREE_TAPS, and `taps_db` measured there.
    """

    mcs: int
    law_db: float
    flat_db: float
    eesm_db: float
    taps_db: float

    @property
    def loss_db(self) -> float:
        """The implementation loss."""
        return self.flat_db - self.law_db

    @property
    def difference_db(self) -> float:
        """By how much more SNR is needed behind taps than predicted."""
        return self.taps_db - self.eesm_db


def compared(
    mcs: int, *, packets: int, seed: int, progress: Callable[[PacketPoint], None]
) -> tuple[MeasuredScheme, tuple[PacketPoint, ...], tuple[PacketPoint, ...]]:
    """Measures a scheme in both channels: the row, and the points in white noise and behind taps."""

    def measured(channel: Multipath, start_db: float) -> Measured:
        def point(snr_db: float) -> PacketPoint:
            found = measured_point(mcs, snr_db, channel=channel, packets=packets, seed=seed)
            progress(found)
            return found

        return Measured.of(start_db, point)

    law_db = law_at_db(mcs)
    flat = measured(FLAT, law_db + 0.3)
    predicted_db = snr_behind_db(mcs, flat.at_db, THREE_TAPS)
    taps = measured(THREE_TAPS, predicted_db)
    row = MeasuredScheme(mcs=mcs, law_db=law_db, flat_db=flat.at_db, eesm_db=predicted_db, taps_db=taps.at_db)
    return row, flat.points, taps.points


def law_at_db(mcs: int) -> float:
    """The SNR at which the law predicts a packet error rate of TARGET."""
    blocks, bits = code_blocks(mcs)
    target = 1.0 - (1.0 - TARGET) ** (1.0 / blocks)
    return float(_LAW.threshold_db(target=target, bits=float(bits))[mcs])


def snr_behind_db(mcs: int, effective_db: float, channel: Multipath) -> float:
    """The mean SNR at which this channel has an exponential effective SINR of `effective_db`; bisection."""
    gain_db, beta = channel.gain_db(SMALLEST), float(_LAW.beta_I[mcs])
    low, high = effective_db + float(-gain_db.max()), effective_db + float(-gain_db.min())
    for _ in range(50):
        middle = (low + high) / 2.0
        is_below = float(eesm_db(middle + gain_db, beta)) < effective_db
        low, high = (middle, high) if is_below else (low, middle)
    return (low + high) / 2.0


def loss_db(rows: Sequence[MeasuredScheme]) -> float:
    """The one implementation loss of a receiver: the middle of the smallest and the largest of these rows."""
    losses = np.asarray([row.loss_db for row in rows])
    return float(losses.min() + losses.max()) / 2.0
