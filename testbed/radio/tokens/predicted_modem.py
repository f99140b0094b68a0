"""Modems without samples: packets take the time of the waveform, and are lost as predicted."""

from collections import deque
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from channel.core.rng import stream
from channel.fidelity.packet_level import PacketLevel, Prediction
from channel.waveform.header import Header, PayloadFormat
from channel.waveform.modulator import Modulator
from channel.waveform.received import Counters, Received
from testbed.radio.modem import Following, ModemSettings, Units
from testbed.radio.radio import RadioCounters
from testbed.radio.waterfall import BINS, Waterfall


class PredictedModem:
    """Implements Modem for a node of `predicted_modems`. What packets arrive is drawn when they are sent."""

    def __init__(self, level: PacketLevel, settings: ModemSettings, *, node: int, seed: int) -> None:
        self.settings, self.rate_hz, self.late_bursts, self.sent = settings, level.rate_hz, 0, 0
        self.counters, self.radio_counters, self.heard = Counters(), RadioCounters(), Waterfall(BINS)
        self.others: Sequence[PredictedModem] = ()
        self._level, self._node, self._seed = level, node, seed
        self._modulator = Modulator(settings.numerology)
        self._block = max(1, round(settings.block_s * self.rate_hz))
        self._now = self._free = 0
        self._coming: deque[Received] = deque()

    @property
    def now_s(self) -> float:
        """See Modem."""
        return self._now / self.rate_hz

    @property
    def timeout_s(self) -> float:
        """See Modem."""
        return self.settings.timeout_s(self.rate_hz)

    def receive(self) -> list[Received]:
        """See Modem."""
        self._now += self._block
        found = list[Received]()
        while self._coming and self._coming[0].position + self._coming[0].samples <= self._now:
            found.append(self._coming.popleft())
        return found

    def skip(self) -> list[Received]:
        """See Modem."""
        self._now += self._block
        return []

    def send_due(self, following: Following) -> None:
        """See Modem."""
        while (begin := max(self._now, self._free)) < self._now + self._block:
            if (packet := following(begin / self.rate_hz)) is None:
                return
            self._send(*packet, begin)

    def close(self) -> None:
        """See Modem."""

    def _send(self, header: Header, payload: bytes | Units, begin: int) -> None:
        units, size = (0, len(payload)) if isinstance(payload, bytes) else payload.shape
        form = PayloadFormat(self.settings.mcs, units, size)
        samples = self._modulator.length(form)
        self._free, self.sent = begin + samples, self.sent + samples
        prediction = self._level.predict(self._node, header.target, form, begin / self.rate_hz)
        rng = stream(self._seed, "predicted packet", self._node, header.target, begin)
        target = self.others[header.target]
        target.counters.detections += 1
        if rng.random() < prediction.header_loss:
            target.counters.bad_headers += 1
            return
        is_whole_N = rng.random(prediction.loss_N.size) >= prediction.loss_N
        target.take(_received(header, form, payload, is_whole_N, prediction, begin, samples))

    def take(self, packet: Received) -> None:
        """Counts a packet whose header arrives, and hands it out once its samples have passed."""
        self.counters.packets += 1
        if packet.is_whole_U is None:
            self.counters.bad_payloads += packet.payload is None
        else:
            self.counters.lost_units += int((~packet.is_whole_U).sum())
        self._coming.append(packet)


def predicted_modems(
    level: PacketLevel, settings: ModemSettings, *, nodes: int, seed: int
) -> list[PredictedModem]:
    """The modems of nodes that hear each other; all have to receive or skip equally often."""
    modems = [PredictedModem(level, settings, node=node, seed=seed) for node in range(nodes)]
    for modem in modems:
        modem.others = modems
    return modems


def _received(
    header: Header,
    form: PayloadFormat,
    payload: bytes | Units,
    is_whole_N: NDArray[np.bool_],
    prediction: Prediction,
    begin: int,
    samples: int,
) -> Received:
    whole, units_UN = (payload, None) if isinstance(payload, bytes) else (None, payload)
    return Received(
        header=header,
        mcs=form.mcs,
        payload=whole if is_whole_N.all() else None,
        units_UN=None if units_UN is None else np.where(is_whole_N[:, None], units_UN, np.uint8(0)),
        is_whole_U=None if units_UN is None else is_whole_N,
        position=begin,
        samples=samples,
        snr_db=prediction.snr_db,
        offset=0.0,
        clock_difference=0.0,
        response_K=np.sqrt(prediction.power_K).astype(np.complex64),
        points=np.zeros(0, dtype=np.complex64),
    )
