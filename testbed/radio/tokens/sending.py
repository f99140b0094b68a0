"""What a message took on the air, and the delivery that follows from it."""

from dataclasses import dataclass

import numpy as np

from channel.core.link import Delivery, Transfer
from channel.links.fixed import Direction
from channel.waveform.arq import ArqCounters
from splitfl.wire.row_split import Mask
from testbed.radio.modem import Modem


@dataclass(frozen=True, kw_only=True)
class Sending:
    """What a message took: seconds and samples on the air, segments, and packets that were repeated.

    `is_lost` if the far side did not acknowledge it.
    """

    is_lost: bool
    took_s: float
    samples: int
    segments: int
    retransmissions: int


class SendingMeter:
    """Counts what a message takes from here on: samples of these modems, and packets of its sender's ARQ."""

    def __init__(self, counters: ArqCounters, *modems: Modem) -> None:
        self._counters, self._modems = counters, modems
        self._before = self._counted()

    def sending(self, *, is_lost: bool, took_s: float) -> Sending:
        """What was counted until now."""
        samples, segments, retransmissions = (
            now - before for now, before in zip(self._counted(), self._before, strict=True)
        )
        return Sending(
            is_lost=is_lost,
            took_s=took_s,
            samples=samples,
            segments=segments,
            retransmissions=retransmissions,
        )

    def _counted(self) -> tuple[int, int, int]:
        samples = sum(modem.sent for modem in self._modems)
        return samples, self._counters.sent, self._counters.retransmissions


def delivery_of(
    transfer: Transfer, sending: Sending, rate_hz: float, rows_N: Mask | None, sent_N: Mask | None = None
) -> Delivery:
    """The delivery of a message that took this sending; `rows_N` of its rows arrived, None without any.

    `sent_N` of its rows were sent, by default all.
    """
    arrived = np.full(max(sending.segments, 1), not sending.is_lost)  # no segment if nothing was answered
    airtime_s = sending.samples / rate_hz
    if rows_N is not None:
        arrived = np.concatenate([arrived, rows_N if sent_N is None else rows_N[sent_N]])
    return Delivery(
        arrived=arrived,
        finish_s=transfer.start_s + sending.took_s,
        retransmissions=sending.retransmissions,
        airtime_s=airtime_s,
        energy_j=Direction.power_w * airtime_s,
        rows=None if sending.is_lost else rows_N,
    )
