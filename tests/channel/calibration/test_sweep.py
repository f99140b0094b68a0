import pytest

from channel.calibration.simulation import CHUNK, BlerCurve, chunk_failures
from channel.calibration.sweep import Point, curves, swept
from channel.core.errors import BadParameter
from channel.phy.mcs import CQI_TABLES, MCS_TABLES

SHORT = BlerCurve(4, 378.0, 100)


def test_every_scheme_of_every_table_has_a_curve_once():
    schemes = [(curve.modulation_order, curve.code_rate_1024) for curve in curves() if curve.bits == 1000]
    tables = (*MCS_TABLES.values(), *CQI_TABLES.values())
    assert sorted(schemes) == sorted({(q, r) for table in tables for q, rates in table.groups for r in rates})
    assert len(set(curves())) == len(curves())


def test_schemes_with_two_base_graphs_are_simulated_with_both():
    graphs: dict[tuple[int, float], set[int]] = {}
    for curve in curves():
        graphs.setdefault((curve.modulation_order, curve.code_rate_1024), set()).add(
            curve.code().graph_number
        )
    for (_, rate), found in graphs.items():
        assert found == ({2} if rate / 1024 <= 0.25 else {1, 2})


@pytest.mark.parametrize("blocks", [0, 100, 251])
def test_blocks_that_fill_no_chunks_are_refused(blocks):
    with pytest.raises(BadParameter, match=f"blocks must be a multiple of {CHUNK} and above 0, got {blocks}"):
        list(swept(SHORT, seed=0, blocks=blocks, done=lambda curve, snr_db: None))


@pytest.mark.slow
def test_a_chunk_has_one_result_in_any_order_and_process():
    code = SHORT.code()
    asked = [(snr_db, chunk) for snr_db in (3.0, 3.5) for chunk in (0, 1, 2)]
    failed = {key: chunk_failures(SHORT, code, key[0], seed=0, chunk=key[1]) for key in asked}
    again = {key: chunk_failures(SHORT, SHORT.code(), key[0], seed=0, chunk=key[1]) for key in asked[::-1]}
    assert failed == again
    assert len({failed[3.0, chunk] for chunk in (0, 1, 2)}) > 1
    assert chunk_failures(SHORT, code, 3.0, seed=1, chunk=0) != failed[3.0, 0]


@pytest.mark.slow
def test_nothing_fails_far_above_the_waterfall_and_everything_far_below():
    code = SHORT.code()
    assert chunk_failures(SHORT, code, 15.0, seed=0, chunk=0) == 0
    assert chunk_failures(SHORT, code, -5.0, seed=0, chunk=0) == CHUNK


@pytest.mark.slow
def test_a_sweep_covers_the_waterfall_and_reuses_existing_points():
    first = list(swept(SHORT, seed=0, blocks=CHUNK, done=lambda curve, snr_db: None))
    rates = [point.errors / point.blocks for point in first]
    assert max(rates) > 0.9
    assert min(rates) < 0.05
    assert [point.snr_db for point in first] == sorted(point.snr_db for point in first)
    known = {point.snr_db: Point(point.curve, point.snr_db, 7, 3) for point in first[1:4]}
    second = list(swept(SHORT, seed=0, blocks=CHUNK, done=lambda curve, snr_db: known.get(snr_db)))
    assert second == [first[0], *known.values(), *first[4:]]
