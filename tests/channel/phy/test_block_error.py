import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.phy.block_error import BlockErrorLaw, law_document
from channel.phy.mcs import CQI_TABLES, MCS_TABLES, SchemeTable, mcs_table

LAW = BlockErrorLaw.of(mcs_table("64qam"))

# As first measured for the design with at most 600 blocks a point, K = 1000: s50 in decibels, MCS 0 to 28.
# MCS 0 to 2 were a faster code then, whose bits were repeated.
FIRST_S50_DB = [
    *(-5.97, -4.84, -3.97, -2.77, -1.74, -0.70, 0.19, 1.08, 1.96, 2.86, 3.17, 3.85, 4.76, 5.66, 6.67),
    *(7.66, 8.24, 8.77, 9.32, 10.30, 11.26, 12.20, 13.15, 14.19, 15.10, 16.11, 17.08, 17.95, 18.94),
]


def test_the_law_is_close_to_the_first_measurement():
    distance_db = np.abs(LAW.s50_db_I - FIRST_S50_DB)
    assert distance_db[3:].max() < 0.2
    assert np.median(distance_db[3:]) < 0.03
    assert distance_db[:3].max() < 0.3


def test_its_ten_and_one_per_cent_points_are_where_the_law_puts_them():
    s50_db, slope = LAW.s50_db_I, LAW.slope_I
    assert LAW.threshold_db(target=0.1, bits=1000.0) == pytest.approx(s50_db + 1.2816 / slope, abs=1e-4)
    assert LAW.threshold_db(target=0.01, bits=1000.0) == pytest.approx(s50_db + 2.3263 / slope, abs=1e-4)


# TS 38.212 clause 7.2.2: above rate 0.67 graph 2 up to 292 bits and 16 of checksum, else graph 1; up to it
# and above 0.25 graph 1 beyond 3,824 bits and 16, else graph 2; slower codes have graph 2 only.
@pytest.mark.parametrize(
    ("mcs", "bits", "is_other"),
    [
        *((24, 308.0, True), (24, 309.0, False), (24, 8448.0, False)),
        *((16, 308.0, False), (16, 3840.0, False), (16, 3841.0, True)),
        *((3, 100.0, False), (3, 8448.0, False)),
    ],
)
def test_the_middle_moves_where_the_other_base_graph_begins(mcs, bits, is_other):
    moved_db = LAW.threshold_db(target=0.5, bits=bits)[mcs] - LAW.s50_db_I[mcs]
    assert moved_db == pytest.approx(LAW.other_graph_db_I[mcs] if is_other else 0.0)
    assert (LAW.other_graph_db_I[mcs] != 0.0) == (mcs != 3)
    assert LAW.code_block(mcs, LAW.s50_db_I[mcs] + moved_db, bits) == pytest.approx(0.5)


def test_the_data_file_has_its_provenance():
    document = law_document()
    for field in ("channel", "code", "decoder", "blocks_per_point", "status", "script", "seed", "versions"):
        assert document["provenance"][field] is not None
    assert document["provenance"]["status"] == "measured"
    found = {(row["modulation_order"], row["code_rate_1024"]) for row in document["rows"]}
    tables = (*MCS_TABLES.values(), *CQI_TABLES.values())
    assert found == {(order, rate) for table in tables for order, rates in table.groups for rate in rates}
    assert len(document["rows"]) == len(found) == 38


@pytest.mark.parametrize("table", [*MCS_TABLES.values(), *CQI_TABLES.values()], ids=lambda table: table.name)
def test_every_table_has_a_law_whose_thresholds_rise_with_the_index(table):
    law = BlockErrorLaw.of(table)
    for bits in (250.0, 1000.0, 8448.0):
        assert (np.diff(law.threshold_db(target=0.1, bits=bits)) > 0.0).all()


@given(mcs=st.integers(0, 28), snr_db=st.floats(-30, 40), more_db=st.floats(0, 20), bits=st.floats(24, 8448))
def test_more_snr_never_fails_more_often(mcs, snr_db, more_db, bits):
    low, high = LAW.code_block(mcs, np.array([snr_db, snr_db + more_db]), bits)
    assert 0.0 <= high <= low <= 1.0


def test_a_transport_block_fails_where_any_of_its_code_blocks_does():
    one = float(LAW.code_block(9, 3.2, 1000.0))
    assert LAW.transport_block(9, 3.2, 1000.0, 6) == pytest.approx(1.0 - (1.0 - one) ** 6)
    assert LAW.transport_block(9, 30.0, 1000.0, 6) < 1e-300
    assert LAW.transport_block(9, -30.0, 1000.0, 6) == 1.0


def test_many_blocks_of_many_users_are_decided_at_once():
    mcs = np.array([[0, 9], [16, 28]])
    rates = LAW.transport_block(mcs, LAW.s50_db_I[mcs], np.full((2, 2), 1000.0), np.array([1, 2]))
    assert rates == pytest.approx(np.array([[0.5, 0.75], [0.5, 0.75]]))


def test_a_real_receiver_needs_its_loss_more():
    real = BlockErrorLaw.of(mcs_table("64qam"), implementation_loss_db=3.0)
    assert real.code_block(9, 6.0, 500.0) == pytest.approx(LAW.code_block(9, 3.0, 500.0))
    gap_db = real.threshold_db(target=0.1, bits=1000.0) - LAW.threshold_db(target=0.1, bits=1000.0)
    assert gap_db == pytest.approx(3.0)


# duranta-project/openairinterface5g pull request 265: SINR at which one block in a thousand fails
def test_with_three_decibels_of_loss_it_is_like_openairinterface():
    published_db = [
        *(-1.2, -0.6, 0.2, 1.4, 2.4, 3.2, 4.2, 4.8, 5.4, 6.2, 8.8, 9.2, 9.8, 10.2, 11.0, 11.8, 12.4, 14.2),
        *(14.2, 15.2, 16.0, 16.6, 17.6, 18.2, 19.2, 20.0, 21.2, 21.8, 24.4),
    ]
    real = BlockErrorLaw.of(mcs_table("64qam"), implementation_loss_db=3.0)
    gap_db = np.array(published_db) - real.threshold_db(target=1e-3, bits=1000.0)
    # The largest gap is that of MCS 10, the first with 16QAM.
    assert np.abs(gap_db).max() < 1.8
    assert np.mean(gap_db) == pytest.approx(0.0, abs=0.6)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (
            lambda: BlockErrorLaw.of(mcs_table("64qam"), implementation_loss_db=-1.0),
            "implementation_loss_db must be at least 0, got -1.0",
        ),
        (
            lambda: BlockErrorLaw.of(SchemeTable("odd", ((2, (100.0, 120.0)),))),
            r"bler_law.json must have every scheme of odd; missing: \[\(2, 100.0\)\]",
        ),
        (lambda: LAW.threshold_db(target=0.0, bits=1000.0), "target must lie in"),
        (lambda: LAW.threshold_db(target=0.1, bits=0.0), "bits must be above 0, got 0.0"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
