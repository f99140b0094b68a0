"""Whether packets of the modem arrive between the nodes of a scenario, predicted without samples.

The packet level of what `channel.iq` and `channel.waveform` do with samples: the same powers, noise and
fading at the same times, then EESM, the block error law and the receiver's implementation loss.
Axes: F resource-block groups; S slots; U users; N units of a packet; K used subcarriers.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from channel.core.arrays import Array
from channel.core.errors import BadParameter
from channel.core.units import ratio_to_db
from channel.iq.cell_levels import CellLevels
from channel.phy.block_error import BlockErrorLaw
from channel.phy.effective_sinr import eesm
from channel.phy.receivers import MODEM, implementation_loss_db
from channel.propagation.fading_grid import SLOTS
from channel.scenario.load import Scenario
from channel.waveform.header import HEADER_BYTES, PayloadFormat
from channel.waveform.layout import MCS_TABLE, header_symbols, layout_of
from channel.waveform.numerology import Numerology
from channel.waveform.preamble import Preamble

_HEADER_MCS = 3
"""QPSK of rate 0.245, the row next to the header's 1/4."""
_BAND_SHARE = 0.01
_LEAST_SNR = 1e-30
"""So that its decibels are finite."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Prediction:
    """The probabilities with which a packet loses its header, and each of its N units.

    A payload without units is one. `power_K` is the power gain of the used subcarriers in the middle of the
    payload, relative to the receiver's full scale, and `snr_db` their mean E_s/N0.
    """

    header_loss: float
    loss_N: Array
    power_K: Array
    snr_db: float


class PacketLevel:
    """Predicts packets between the base station, node 0, and the users of a scenario.

    Each unit meets the channel at its own time, and is lost with the probability of its code blocks. That the
    channel changes between its estimate at the beginning of a packet and a unit is not modelled, and neither
    is detection. Raises BadParameter for a scenario with a jammer or recorded taps, and for a `rate_hz` at
    which the used subcarriers are not as wide as the carrier of a scenario with fading.
    """

    def __init__(self, scenario: Scenario, *, rate_hz: float, numerology: Numerology) -> None:
        if scenario.jammer.kind or scenario.taps.is_given:
            raise BadParameter("packets are predicted in scenarios without [jammer] and [taps] only")
        self.rate_hz, self._numerology = rate_hz, numerology
        self._levels = CellLevels(
            scenario=scenario, rate_hz=rate_hz, given_dbm_N=[None] * (scenario.place.users + 1)
        )
        self._law = BlockErrorLaw.of(MCS_TABLE, implementation_loss_db=implementation_loss_db(MODEM))
        self._used = numerology.carrier_K.size / numerology.fft_size
        carrier = scenario.carrier
        wanted_hz = carrier.groups * carrier.group_hz / self._used
        if scenario.fading.profile != "none" and abs(rate_hz / wanted_hz - 1.0) > _BAND_SHARE:
            raise BadParameter(
                f"rate_hz must be {wanted_hz:.6g} for predicted packets, so that the used subcarriers are as "
                f"wide as the carrier of the scenario, got {rate_hz:g}"
            )

    def predict(self, source: int, target: int, form: PayloadFormat, begin_s: float) -> Prediction:
        """The prediction for a packet of this format that begins at this time; one end is node 0."""
        direction, user = ("down", target - 1) if source == 0 else ("up", source - 1)
        layout = layout_of(form, self._numerology)
        symbol_s = self._numerology.symbol / self.rate_hz
        header_s = begin_s + Preamble(self._numerology).length / self.rate_hz
        header = header_symbols(self._numerology)
        payload_s, units = header_s + header * symbol_s, layout.units
        time_N = payload_s + layout.symbols * symbol_s * (np.arange(units) + 0.5) / max(units, 1)
        loss_N = [
            float(
                self._law.transport_block(
                    form.mcs,
                    self._effective_db(direction, user, time_s, form.mcs),
                    float(layout.code.bits),
                    float(layout.blocks_per_unit),
                )
            )
            for time_s in time_N.tolist()
        ]
        effective_db = self._effective_db(direction, user, header_s, _HEADER_MCS)
        power_F, floor = self._received(direction, user, payload_s + layout.symbols * symbol_s / 2.0)
        return Prediction(
            header_loss=float(self._law.code_block(_HEADER_MCS, effective_db, 8.0 * HEADER_BYTES)),
            loss_N=np.asarray(loss_N),
            power_K=self._of_subcarriers(power_F),
            snr_db=float(ratio_to_db(np.maximum(power_F / floor, _LEAST_SNR).mean())),
        )

    def _effective_db(self, direction: str, user: int, time_s: float, mcs: int) -> float:
        power_F, floor = self._received(direction, user, time_s)
        snr_F = np.maximum(power_F / floor, _LEAST_SNR)
        return float(ratio_to_db(eesm(snr_F, float(self._law.beta_I[mcs]))))

    def _received(self, direction: str, user: int, time_s: float) -> tuple[Array, float]:
        """The power of a used subcarrier in each group, and that of its noise, relative to full scale."""
        levels, node = self._levels, 0 if direction == "up" else user + 1
        floor = float(levels.floor_N(levels.update(time_s))[node])
        power = float(self._amplitudes[direction](time_s)[user]) ** 2
        model = levels.models[direction]
        number, slot = divmod(int(time_s / model.slot_s), SLOTS)
        gain_F = np.ones(1) if model.fading is None else self._fading(direction, number)[slot, :, user]
        return power * gain_F, floor * self._used

    def _of_subcarriers(self, power_F: Array) -> Array:
        """Interpolated between the middles of the groups: (K,)."""
        carrier_K = self._numerology.carrier_K / (2.0 * self._numerology.carrier_K.max())
        middle_F = (np.arange(power_F.size) + 0.5) / power_F.size - 0.5
        power_K: Array = np.interp(carrier_K, middle_F, power_F)
        return power_K

    @cached_property
    def _amplitudes(self) -> dict[str, Callable[[float], Array]]:
        return {direction: self._levels.amplitude(direction) for direction in self._levels.models}

    @cached_property
    def _fading(self) -> Callable[[str, int], Array]:
        """|H|^2 (S, F, U) of a direction in a block of slots."""

        def power(direction: str, number: int) -> Array:
            fading = self._levels.models[direction].fading
            assert fading is not None, "only for scenarios with fading"
            return fading.power(number)

        return lru_cache(maxsize=4)(power)
