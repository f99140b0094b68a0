from pathlib import Path

import pytest

from channel.fidelity.faded_packets import FadedPacket, FadingCase, faded, faded_packet, row_of
from channel.fidelity.fading import BRIER, ERROR_RATE_DIFFERENCE, SAME_VERDICT, measured, moving, walking

CASE = FadingCase(profile="C", delay_spread_s=100e-9, mcs=16, snr_db=12.0)


def test_three_profiles_and_schemes_were_measured_at_the_snrs_of_the_cases():
    for name, cases in (("walking", walking()), ("moving", moving())):
        keys = [(case.profile, case.mcs, case.snr_db, case.speed_m_s) for case in cases]
        assert keys == [
            (row["profile"], row["mcs"], row["snr_db"], row["speed_m_s"]) for row in measured()[name]
        ]
    assert len({case.profile for case in walking()}) == 3


def test_the_packet_level_predicts_what_becomes_of_walking_users_packets():
    for row in measured()["walking"]:
        assert row["packets"] >= 300
        assert row["same_verdict"] >= SAME_VERDICT
        assert abs(row["predicted"] - row["measured"]) <= ERROR_RATE_DIFFERENCE
        assert row["brier"] <= BRIER < row["constant_brier"] / 2


def test_the_packet_level_is_an_optimist_for_fast_users():
    still, *_, fast = measured()["moving"]
    assert abs(still["predicted"] - still["measured"]) <= ERROR_RATE_DIFFERENCE
    assert fast["measured"] > fast["predicted"] + 0.3


def test_the_documentation_has_the_measured_rows():
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "waveform.md").read_text(encoding="utf-8")
    for row in (*measured()["walking"], *measured()["moving"]):
        rates = f"{row['predicted']:.3f} | {row['measured']:.3f} | {row['same_verdict']:.1%}".replace(
            "%", " %"
        )
        assert f"| {row['speed_m_s']:g} | {row['mcs']} | {row['snr_db']:.2f} | {rates} |" in page


def test_a_row_scores_predictions():
    outcomes = [(0.0, False), (0.8, True), (0.4, True), (0.2, False)]
    row = row_of(CASE, [FadedPacket(predicted=chance, is_lost=is_lost) for chance, is_lost in outcomes])
    assert (row.packets, row.predicted, row.measured) == (4, pytest.approx(0.35), 0.5)
    assert (row.same_verdict, row.expected_same) == (0.75, pytest.approx(0.8))
    assert (row.brier, row.constant_brier) == (pytest.approx(0.11), 0.25)


def test_the_samples_have_the_mean_snr_of_the_packet_level():
    scenario, rate_hz = CASE.scenario, CASE.rate_hz
    assert rate_hz == pytest.approx(5.0954e6, rel=1e-4)
    assert scenario.link.receiver == "splitfl-ofdm"
    clear = FadingCase(profile="C", delay_spread_s=0.0, mcs=16, snr_db=40.0, speed_m_s=0.0)
    lossy = FadingCase(profile="C", delay_spread_s=0.0, mcs=16, snr_db=-10.0, speed_m_s=0.0)
    for case, is_lost in ((clear, False), (lossy, True)):
        packet = faded_packet(case, seed=0, index=0)
        assert packet.is_lost == is_lost
        assert packet.predicted == pytest.approx(float(is_lost), abs=1e-3)


@pytest.mark.slow
def test_other_realisations_agree_as_well():
    row = faded(CASE, packets=60, seed=5, progress=lambda done: None)
    assert row.same_verdict >= 0.9
    assert abs(row.predicted - row.measured) <= 0.08
    assert row == faded(CASE, packets=60, seed=5, progress=lambda done: None)
