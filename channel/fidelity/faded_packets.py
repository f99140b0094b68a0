"""Packets over fading channels, predicted by the packet level and received as samples.

Both sides are built from the same scenario and seed: the packet level as a cell whose SINRs in resource-block
groups go through EESM and the block error law with the receiver's implementation loss, the samples as an
IqChannel whose paths fade within the packet. Each packet has a realisation of its own.
Axes: F resource-block groups; N nodes; B samples.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from channel.cell.build_cell import cell_of, parameters_of
from channel.core.rng import stream
from channel.core.units import dbm_to_w, ratio_to_db
from channel.fidelity.packet_level import PacketLevel
from channel.fidelity.packets import PACKET_BYTES, code_blocks
from channel.iq.from_scenario import iq_channel_of
from channel.phy.effective_sinr import eesm_db
from channel.phy.receivers import MODEM
from channel.propagation.fading_grid import SLOTS
from channel.propagation.noise import noise_w
from channel.scenario.load import Scenario, changed, load
from channel.waveform.header import Header, PayloadFormat
from channel.waveform.modulator import Modulator
from channel.waveform.numerology import SMALLEST, Samples
from channel.waveform.receiver import Receiver

TOKENS = 4
"""Of a packet of PACKET_BYTES."""

_GROUPS = 23
"""Resource blocks of 180 kHz, about the bandwidth of the used subcarriers at 5 Msps."""
_BASE_DBM = 30.0
_BEFORE, _AFTER = 300, 450
"""Samples of noise around a packet; those after it have to exceed the delays of air and channel."""


@dataclass(frozen=True, kw_only=True)
class FadingCase:
    """A profile of TR 38.901 with its rms delay spread, a scheme, and the mean SNR of a used subcarrier.

    The carrier is at 3.5 GHz: a user at `speed_m_s` has a maximum Doppler shift of 11.7 Hz per m/s.
    """

    profile: str
    delay_spread_s: float
    mcs: int
    snr_db: float
    speed_m_s: float = 0.83

    @cached_property
    def scenario(self) -> Scenario:
        """One user at a constant mean SNR, whose carrier is as wide as the used subcarriers."""
        bare = changed(
            load("ideal"),
            {
                "carrier": {
                    "subcarrier_hz": 15e3,
                    "groups": _GROUPS,
                    "blocks_per_group": 1,
                    "base_dbm": _BASE_DBM,
                },
                "place": {"users": 1, "speed_m_s": self.speed_m_s},
                "fading": {"profile": self.profile, "delay_spread_s": self.delay_spread_s},
                "link": {"receiver": MODEM},
            },
        )
        carrier = bare.carrier
        noise = float(
            noise_w(carrier.group_hz * carrier.groups, noise_figure_db=carrier.user_noise_figure_db)
        )
        clear_db = float(ratio_to_db(float(dbm_to_w(_BASE_DBM)) / noise))
        return changed(bare, {"place": {"loss_db": clear_db - self.snr_db}})

    @property
    def rate_hz(self) -> float:
        """The sample rate at which the used subcarriers are as wide as the carrier."""
        carrier = self.scenario.carrier
        return carrier.group_hz * carrier.groups * SMALLEST.fft_size / SMALLEST.carrier_K.size


@dataclass(frozen=True, kw_only=True)
class FadedPacket:
    """The probability with which the packet level loses a packet, and whether the receiver has lost it."""

    predicted: float
    is_lost: bool


@dataclass(frozen=True, kw_only=True)
class FadingRow:
    """The comparison over the packets of a case: mean `predicted` and `measured` packet error rate.

    `same_verdict` is the share of packets with the outcome that was predicted as the more probable one;
    `expected_same` is its mean if the predicted probabilities are true. `brier` is the mean squared
    difference of prediction and outcome (Brier, 1950), `constant_brier` that of the best constant prediction.
    """

    profile: str
    delay_spread_ns: float
    mcs: int
    snr_db: float
    speed_m_s: float
    packets: int
    predicted: float
    measured: float
    same_verdict: float
    expected_same: float
    brier: float
    constant_brier: float


def faded(case: FadingCase, *, packets: int, seed: int, progress: Callable[[int], None]) -> FadingRow:
    """Compares both levels over this number of packets; `progress` is told how many are done."""
    found = []
    for index in range(packets):
        found.append(faded_packet(case, seed=seed, index=index))
        progress(index + 1)
    return row_of(case, found)


def faded_token_row(
    case: FadingCase, *, packets: int, seed: int, progress: Callable[[int], None]
) -> FadingRow:
    """As `faded`, of the tokens of these packets; `packets` of the row are tokens."""
    found = list[FadedPacket]()
    for index in range(packets):
        found += faded_tokens(case, seed=seed, index=index)
        progress(index + 1)
    return row_of(case, found)


def row_of(case: FadingCase, found: Sequence[FadedPacket]) -> FadingRow:
    """The row of these packets."""
    predicted = np.asarray([one.predicted for one in found])
    is_lost = np.asarray([one.is_lost for one in found])
    measured = float(is_lost.mean())
    return FadingRow(
        profile=case.profile,
        delay_spread_ns=1e9 * case.delay_spread_s,
        mcs=case.mcs,
        snr_db=case.snr_db,
        speed_m_s=case.speed_m_s,
        packets=len(found),
        predicted=float(predicted.mean()),
        measured=measured,
        same_verdict=float(np.mean((predicted > 0.5) == is_lost)),
        expected_same=float(np.maximum(predicted, 1.0 - predicted).mean()),
        brier=float(np.mean((predicted - is_lost) ** 2)),
        constant_brier=measured * (1.0 - measured),
    )


def faded_packet(case: FadingCase, *, seed: int, index: int) -> FadedPacket:
    """One packet at both levels, over the realisation `index` of this seed."""
    rng = stream(seed, "faded packet", case.profile, round(1e9 * case.delay_spread_s), case.mcs, index)
    scenario = replace(case.scenario, seed=int(rng.integers(2**31)))
    payload = rng.bytes(PACKET_BYTES)
    samples = Modulator().packet(Header(), payload, mcs=case.mcs)
    middle_s = (_BEFORE + samples.size / 2) / case.rate_hz
    found = Receiver().push(_heard(scenario, case.rate_hz, samples))
    return FadedPacket(
        predicted=_predicted(scenario, case.mcs, middle_s),
        is_lost=payload not in [packet.payload for packet in found],
    )


def faded_tokens(case: FadingCase, *, seed: int, index: int) -> list[FadedPacket]:
    """The tokens of one packet, a code block each, at both levels, as `faded_packet`."""
    rng = stream(seed, "faded tokens", case.profile, round(1e9 * case.delay_spread_s), case.mcs, index)
    scenario = replace(case.scenario, seed=int(rng.integers(2**31)))
    token_TN = rng.integers(0, 256, (TOKENS, PACKET_BYTES // TOKENS), dtype=np.uint8)
    samples = Modulator().unit_packet(Header(), token_TN, mcs=case.mcs)
    level = PacketLevel(scenario, rate_hz=case.rate_hz, numerology=SMALLEST)
    form = PayloadFormat(case.mcs, *token_TN.shape)
    prediction = level.predict(0, 1, form, _BEFORE / case.rate_hz)
    is_whole_T = np.zeros(TOKENS, dtype=np.bool_)
    for packet in Receiver().push(_heard(scenario, case.rate_hz, samples)):
        if packet.units_UN is not None and packet.units_UN.shape == token_TN.shape:
            is_whole_T = (packet.units_UN == token_TN).all(axis=1)
    lost_T = 1.0 - (1.0 - prediction.header_loss) * (1.0 - prediction.loss_N)
    return [
        FadedPacket(predicted=predicted, is_lost=not is_whole)
        for predicted, is_whole in zip(lost_T.tolist(), is_whole_T.tolist(), strict=True)
    ]


def _heard(scenario: Scenario, rate_hz: float, samples: Samples) -> Samples:
    """What the user hears of a packet of the base station."""
    padded = np.pad(samples, (_BEFORE, _AFTER))
    heard_NB = iq_channel_of(scenario, rate_hz=rate_hz).step(np.stack([padded, np.zeros_like(padded)]))
    heard_B: Samples = heard_NB[1]
    return heard_B


def _predicted(scenario: Scenario, mcs: int, time_s: float) -> float:
    """The packet error rate by the SINRs of the slot at `time_s`."""
    model, law = cell_of(scenario).sinr_models["down"], parameters_of(scenario).law
    number, slot = divmod(int(time_s / model.slot_s), SLOTS)
    sinr_F = model.block(number)[0][slot, :, 0]
    effective_db = eesm_db(ratio_to_db(sinr_F), law.beta_I[mcs])
    blocks, bits = code_blocks(mcs)
    return float(law.transport_block(mcs, effective_db, float(bits), float(blocks)))
