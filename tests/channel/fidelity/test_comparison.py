from pathlib import Path

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.fidelity.comparison import MeasuredScheme, compared, law_at_db, loss_db, snr_behind_db
from channel.fidelity.multipath import FLAT, THREE_TAPS
from channel.fidelity.packets import Measured, PacketPoint, code_blocks, measured_point
from channel.phy.block_error import BlockErrorLaw
from channel.phy.receivers import MODEM, implementation_loss_db, receivers
from channel.waveform.layout import LEAST_MCS, MCS_TABLE
from channel.waveform.numerology import SMALLEST

DOCUMENT = receivers()[MODEM]
ROWS = [
    MeasuredScheme(**{name: row[name] for name in ("mcs", "law_db", "flat_db", "eesm_db", "taps_db")})
    for row in DOCUMENT["ten_percent"]
]


def test_every_scheme_of_the_modem_was_measured():
    assert [row.mcs for row in ROWS] == list(range(LEAST_MCS, MCS_TABLE.size))
    assert {point["channel"] for point in DOCUMENT["points"]} == {"flat", "three taps"}


def test_one_implementation_loss_holds_within_a_quarter_of_a_decibel():
    counted = [row for row in ROWS if row.mcs <= 25]
    loss = implementation_loss_db(MODEM)
    assert loss == pytest.approx(loss_db(counted), abs=0.011)
    assert loss <= 1.2
    assert max(abs(row.loss_db - loss) for row in counted) <= 0.25


def test_behind_taps_the_receiver_is_as_good_as_its_effective_sinr_says():
    differences_db = np.asarray([row.difference_db for row in ROWS if row.mcs <= 25])
    assert np.abs(differences_db).max() <= 0.7
    assert abs(differences_db.mean()) <= 0.4


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"mcs {row.mcs}")
def test_the_committed_predictions_are_those_of_the_law(row):
    assert row.law_db == pytest.approx(law_at_db(row.mcs), abs=0.006)
    assert row.eesm_db == pytest.approx(snr_behind_db(row.mcs, row.flat_db, THREE_TAPS), abs=0.02)


def test_headers_are_lost_much_less_often_than_payloads():
    lost = {channel: [0, 0] for channel in ("flat", "three taps")}
    for point in DOCUMENT["points"]:
        lost[point["channel"]][0] += point["lost"]
        lost[point["channel"]][1] += point["unheard"]
    for of_all, of_headers in lost.values():
        assert of_headers < 0.05 * of_all


def test_the_law_with_the_loss_is_the_measured_receiver():
    law = BlockErrorLaw.of(MCS_TABLE, implementation_loss_db=implementation_loss_db(MODEM))
    for row in ROWS:
        if row.mcs <= 25:
            blocks, bits = code_blocks(row.mcs)
            found_db = law.threshold_db(target=1.0 - 0.9 ** (1.0 / blocks), bits=float(bits))[row.mcs]
            assert found_db == pytest.approx(row.flat_db, abs=0.25)


def test_the_documentation_has_the_measured_points():
    page = (Path(__file__).parents[3] / "docs" / "explanation" / "waveform.md").read_text(encoding="utf-8")
    names = ("law_db", "flat_db", "loss_db", "eesm_db", "taps_db", "difference_db")
    for row in DOCUMENT["ten_percent"]:
        shown = " | ".join(f"{row[name]:.2f}" for name in names)
        assert f"| {row['mcs']} | {shown} |" in page
    assert f"implementation loss is {DOCUMENT['implementation_loss_db']:.2f} dB" in page


def test_an_unknown_receiver_is_refused_by_name():
    assert implementation_loss_db("ideal") == 0.0
    with pytest.raises(BadParameter, match="receiver must be one of ideal, splitfl-ofdm, got 'oai'"):
        implementation_loss_db("oai")


def test_the_taps_have_power_one_and_a_deep_notch():
    assert np.linalg.norm(THREE_TAPS.impulse) == pytest.approx(1.0)
    gain_db = THREE_TAPS.gain_db(SMALLEST)
    assert gain_db.min() < -12.0
    assert FLAT.gain_db(SMALLEST) == pytest.approx(0.0, abs=1e-9)


def test_a_search_ends_at_the_crossing_from_either_side():
    def point(snr_db):
        lost = round(1000 * float(np.clip(0.5 - snr_db, 0.0, 1.0)))
        return PacketPoint(mcs=9, snr_db=snr_db, packets=1000, lost=lost, unheard=0)

    for start_db in (-1.0, 0.4, 1.3):
        measured = Measured.of(start_db, point)
        assert measured.at_db == pytest.approx(0.4, abs=0.051)
        assert [found.snr_db for found in measured.points] == sorted(
            {found.snr_db for found in measured.points}
        )


@pytest.mark.slow
@pytest.mark.parametrize("mcs", [9, 16, 25])
def test_a_new_measurement_is_within_a_tenth_of_a_decibel_of_the_committed_one(mcs):
    row, _, _ = compared(mcs, packets=150, seed=7, progress=lambda point: None)
    (committed,) = [one for one in ROWS if one.mcs == mcs]
    assert row.flat_db == pytest.approx(committed.flat_db, abs=0.1)
    assert row.taps_db == pytest.approx(committed.taps_db, abs=0.12)


def test_a_point_repeats_with_its_seed():
    first, again = (measured_point(16, 8.6, channel=FLAT, packets=5, seed=3) for _ in range(2))
    assert first == again
