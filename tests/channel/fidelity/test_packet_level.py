from dataclasses import replace

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.units import db_to_ratio, ratio_to_db
from channel.fidelity.comparison import law_at_db
from channel.fidelity.faded_packets import FadingCase, faded_token_row
from channel.fidelity.fading import BRIER, ERROR_RATE_DIFFERENCE, SAME_VERDICT, measured, of_tokens
from channel.fidelity.packet_level import PacketLevel
from channel.iq.from_scenario import iq_channel_of
from channel.phy.receivers import MODEM, implementation_loss_db
from channel.scenario.load import changed, load
from channel.waveform.header import PayloadFormat
from channel.waveform.numerology import SMALLEST

FORM = PayloadFormat(16, 4, 350)
CASE = FadingCase(profile="C", delay_spread_s=100e-9, mcs=16, snr_db=12.0)


def flat(snr_db):
    """A scenario without fading; its users have full power in both directions, and receivers are equal."""
    case = replace(CASE, snr_db=snr_db)
    noise_figure_db = case.scenario.carrier.user_noise_figure_db
    tables = {
        "fading": {"profile": "none"},
        "carrier": {"base_noise_figure_db": noise_figure_db, "uplink_target_snr_db": 80.0},
        "device": {"transmit_dbm": 30.0},
    }
    return PacketLevel(changed(case.scenario, tables), rate_hz=case.rate_hz, numerology=SMALLEST)


@pytest.mark.parametrize("nodes", [(0, 1), (1, 0)])
def test_without_fading_a_token_is_lost_with_the_probability_of_its_code_block(nodes):
    at_10_percent_db = law_at_db(16) + implementation_loss_db(MODEM)
    rates = [flat(at_10_percent_db + over_db).predict(*nodes, FORM, 0.0) for over_db in (-2.0, 0.0, 2.0)]
    assert rates[1].snr_db == pytest.approx(at_10_percent_db, abs=0.01)
    assert rates[0].loss_N.tolist() == pytest.approx([1.0] * 4, abs=1e-3)
    assert rates[2].loss_N.tolist() == pytest.approx([0.0] * 4, abs=1e-6)
    assert 0.02 < rates[1].loss_N[0] < 0.3
    assert rates[0].header_loss < 1e-9
    assert flat(-6.0).predict(*nodes, FORM, 0.0).header_loss > 0.99


def test_the_power_is_that_of_the_iq_channel_over_subcarriers_and_time():
    fading = {"profile": "A", "delay_spread_s": 300e-9}
    scenario = changed(CASE.scenario, {"fading": fading, "place": {"speed_m_s": 3.0}})
    level = PacketLevel(scenario, rate_hz=CASE.rate_hz, numerology=SMALLEST)
    channel = iq_channel_of(scenario, rate_hz=CASE.rate_hz)
    fft, blocks = SMALLEST.fft_size, 64
    rng = np.random.default_rng(0)
    value = np.exp(2j * np.pi * rng.random((blocks, fft))).astype(np.complex64)
    sent = np.tile(np.fft.ifft(value, axis=1) * fft, (1, 3)).astype(np.complex64).ravel()
    heard = channel.step(np.stack([sent, np.zeros_like(sent)]))[1].reshape(blocks, 3, fft)[:, 2]
    gain_K = (np.abs(np.fft.fft(heard, axis=1) / fft / value) ** 2)[:4].mean(axis=0)[SMALLEST.carrier_K]
    predicted_K = level.predict(0, 1, PayloadFormat(16, 0, 0), 0.0).power_K
    error_db = ratio_to_db(gain_K.mean()) - ratio_to_db(predicted_K.mean())
    assert abs(error_db) < 0.7
    assert np.corrcoef(ratio_to_db(gain_K), ratio_to_db(predicted_K))[0, 1] > 0.9


def test_of_no_payload_only_the_header_is_predicted():
    found = flat(40.0).predict(0, 1, PayloadFormat(16, 0, 0), 0.5)
    assert (found.loss_N.size, found.header_loss) == (0, 0.0)
    assert found.power_K.size == SMALLEST.carrier_K.size
    assert db_to_ratio(found.snr_db) == pytest.approx(1e4, rel=0.01)


def test_a_rate_that_does_not_fit_the_carrier_of_a_fading_scenario_is_refused():
    with pytest.raises(
        BadParameter, match=r"rate_hz must be 5\.09538e\+06 for predicted packets, .* got 1e\+06"
    ):
        PacketLevel(CASE.scenario, rate_hz=1e6, numerology=SMALLEST)


@pytest.mark.parametrize("name", ["jammed", "colosseum-taps"])
def test_jammers_and_recorded_taps_are_refused(name):
    with pytest.raises(BadParameter, match=r"in scenarios without \[jammer\] and \[taps\] only"):
        PacketLevel(load(name), rate_hz=1e6, numerology=SMALLEST)


def test_the_packet_level_predicts_what_becomes_of_single_tokens():
    assert [row["mcs"] for row in measured()["tokens"]] == [case.mcs for case in of_tokens()]
    for row in measured()["tokens"]:
        assert row["packets"] >= 1200
        assert row["same_verdict"] >= SAME_VERDICT
        assert abs(row["predicted"] - row["measured"]) <= ERROR_RATE_DIFFERENCE
        assert row["brier"] <= BRIER < row["constant_brier"] / 2


@pytest.mark.slow
def test_other_realisations_agree_token_by_token():
    row = faded_token_row(CASE, packets=30, seed=5, progress=lambda done: None)
    assert row.packets == 120
    assert row.same_verdict >= 0.9
    assert abs(row.predicted - row.measured) <= 0.08
