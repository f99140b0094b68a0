import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.block_error import BlockErrorLaw, law_document
from channel.errors import BadParameter
from channel.mcs import CQI_TABLES, MCS_TABLES, SchemeTable, mcs_table
from channel.special import gaussian_tail_inverse

LAW = BlockErrorLaw.of(mcs_table("64qam"))

# As measured for CHANNEL.md, K = 1000: s50 in decibels and slope per decibel, MCS 0 to 28
S50_DB = [
    *(-5.97, -4.84, -3.97, -2.77, -1.74, -0.70, 0.19, 1.08, 1.96, 2.86, 3.17, 3.85, 4.76, 5.66, 6.67),
    *(7.66, 8.24, 8.77, 9.32, 10.30, 11.26, 12.20, 13.15, 14.19, 15.10, 16.11, 17.08, 17.95, 18.94),
]
SLOPE = [
    *(3.42, 3.97, 3.79, 3.94, 4.09, 3.51, 3.93, 3.60, 3.65, 4.33, 3.47, 3.40, 3.43, 3.45, 3.56),
    *(3.54, 2.93, 2.86, 3.13, 2.81, 2.91, 3.08, 2.36, 2.99, 2.77, 2.97, 2.52, 2.42, 2.15),
]


def test_the_law_has_the_measured_numbers():
    assert LAW.s50_db_I.tolist() == S50_DB
    assert LAW.slope_I.tolist() == SLOPE


def test_its_ten_and_one_per_cent_points_are_where_the_law_puts_them():
    s50_db, slope = np.array(S50_DB), np.array(SLOPE)
    assert LAW.threshold_db(target=0.1, bits=1000.0) == pytest.approx(s50_db + 1.2816 / slope, abs=1e-4)
    assert LAW.threshold_db(target=0.01, bits=1000.0) == pytest.approx(s50_db + 2.3263 / slope, abs=1e-4)


# 10 % points simulated at other lengths, from the s50 and slopes that CHANNEL.md gives: within 0.12 dB
@pytest.mark.parametrize(
    ("mcs", "bits", "s50_db", "slope"),
    [
        *((4, 250, -1.73, 2.09), (9, 250, 2.90, 1.93), (16, 250, 8.27, 1.44), (24, 250, 15.12, 1.40)),
        *((9, 4000, 2.90, 7.24), (16, 4000, 8.27, 7.39), (24, 4000, 15.12, 5.35)),
    ],
)
def test_the_square_root_law_finds_the_ten_per_cent_points_of_other_lengths(mcs, bits, s50_db, slope):
    simulated_db = s50_db + float(gaussian_tail_inverse(0.1)) / slope
    assert LAW.threshold_db(target=0.1, bits=bits)[mcs] == pytest.approx(simulated_db, abs=0.12)


def test_the_data_file_says_where_its_numbers_come_from():
    document = law_document()
    for field in ("channel", "code", "decoder", "blocks_per_point", "status", "script", "seed", "versions"):
        assert field in document["provenance"]
    assert {row["kind"] for row in document["rows"]} == set(document["kinds"])
    simulated = {
        (row["modulation_order"], row["code_rate_1024"])
        for row in document["rows"]
        if row["kind"] != "estimated"
    }
    table = mcs_table("64qam")
    wanted = zip(table.modulation_order_I.tolist(), (table.code_rate_I * 1024).tolist(), strict=True)
    assert simulated == set(wanted)


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
            r"bler_law.json must have every scheme of odd, got none for \[\(2, 100.0\)\]",
        ),
        (lambda: LAW.threshold_db(target=0.0, bits=1000.0), "target must lie in"),
        (lambda: LAW.threshold_db(target=0.1, bits=0.0), "bits must be above 0, got 0.0"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
