import math
from dataclasses import replace
from importlib.resources import files

import pytest

from channel.calibration.document import (
    POINTS_FILE,
    by_curve,
    committed_points,
    law_of,
    ten_percent_points_db,
    write,
)
from channel.calibration.fit import fitted
from channel.calibration.simulation import CHUNK, BlerCurve, chunk_failures
from channel.core.errors import BadParameter
from channel.core.special_functions import gaussian_tail_inverse
from channel.phy.block_error import DATA_FILE, BlockErrorLaw, law_document
from channel.phy.mcs import CQI_TABLES, MCS_TABLES, mcs_table

HEAD, POINTS = committed_points()
SIMULATED_DB = ten_percent_points_db()


def test_every_point_has_at_least_five_thousand_blocks():
    blocks = {point.blocks for its in POINTS.values() for point in its}
    assert min(blocks) >= 5000
    assert law_document()["provenance"]["blocks_per_point"] == {"least": min(blocks), "most": max(blocks)}


@pytest.mark.parametrize("curve", POINTS, ids=str)
def test_the_points_cover_the_waterfall(curve):
    rates = [point.errors / point.blocks for point in POINTS[curve]]
    assert len(rates) >= 4
    assert max(rates) > 0.8
    assert min(rates) < 0.1


def test_the_committed_parameters_are_the_fitted_ones():
    for row in law_document()["rows"]:
        fit = fitted(POINTS[BlerCurve(row["modulation_order"], row["code_rate_1024"], 1000)])
        assert (row["s50_db"], row["slope_per_db"]) == pytest.approx((fit.s50_db, fit.slope_per_db), abs=6e-4)
        assert row["s50_error_db"] < 0.01
        assert row["slope_error_per_db"] < 0.03 * row["slope_per_db"]


# Conformance row 19, for every scheme and length that was simulated
@pytest.mark.parametrize("bits", [250, 1000, 4000])
def test_the_law_finds_the_ten_per_cent_points_of_the_simulation(bits):
    laws = {table: BlockErrorLaw.of(table) for table in (*MCS_TABLES.values(), *CQI_TABLES.values())}
    compared = 0
    for table, law in laws.items():
        law_db = law.threshold_db(target=0.1, bits=float(bits))
        schemes = zip(table.modulation_order_I.tolist(), (table.code_rate_I * 1024).tolist(), strict=True)
        for position, (order, rate) in enumerate(schemes):
            simulated_db = SIMULATED_DB.get(BlerCurve(order, rate, bits))
            if simulated_db is not None:
                assert law_db[position] == pytest.approx(simulated_db, abs=0.1)
                compared += 1
    assert compared >= {250: 16, 1000: 57, 4000: 23}[bits]


@pytest.mark.slow
def test_the_data_files_are_reproduced_by_the_script(tmp_path):
    law = law_of(HEAD, POINTS, print)
    assert law == law_document()
    write(tmp_path, HEAD, POINTS, law)
    for name in (DATA_FILE, POINTS_FILE):
        assert (tmp_path / name).read_bytes() == files("channel.phy").joinpath(name).read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((DATA_FILE, POINTS_FILE))


# New draws: 2,000 blocks tell the SNR of a rate near 0.2 to 0.01 dB or so.
@pytest.mark.slow
@pytest.mark.parametrize(("mcs", "snr_db"), [(9, 3.1), (24, 15.5)])
def test_a_new_simulation_lies_within_a_seventh_of_a_decibel_of_the_law(mcs, snr_db):
    table = mcs_table("64qam")
    law = BlockErrorLaw.of(table)
    curve = BlerCurve(int(table.modulation_order_I[mcs]), float(table.code_rate_I[mcs] * 1024), 1000)
    code = curve.code()
    failed = sum(chunk_failures(curve, code, snr_db, seed=7, chunk=chunk) for chunk in range(8))
    rate = failed / (8 * CHUNK)
    expected = float(law.code_block(mcs, snr_db, 1000.0))
    assert rate == pytest.approx(expected, abs=4 * math.sqrt(expected / (8 * CHUNK)) + 0.01)
    shift_db = float(law.s50_db_I[mcs] + gaussian_tail_inverse(rate) / law.slope_I[mcs]) - snr_db
    assert abs(shift_db) < 0.15


def test_points_that_leave_out_a_scheme_are_refused():
    kept = [point for curve, its in POINTS.items() if curve.modulation_order != 8 for point in its]
    with pytest.raises(BadParameter, match=r"points must cover every curve; missing: 256QAM 682\.5/1024"):
        by_curve(kept)


def test_points_are_ordered_however_they_come():
    points = [point for its in POINTS.values() for point in its]
    assert by_curve(points[::-1]) == POINTS
    assert by_curve([replace(point) for point in points]) == POINTS
