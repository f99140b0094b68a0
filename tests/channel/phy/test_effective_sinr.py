import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.phy.block_error import BlockErrorLaw
from channel.phy.effective_sinr import eesm, eesm_db, miesm_db
from channel.phy.mcs import mcs_table

LEVELS = arrays(np.float64, st.integers(1, 20), elements=st.floats(-25, 40))
TWO_DB = np.array([0.0, 10.0])


# Conformance row 13 and its neighbours
@pytest.mark.parametrize(
    ("beta", "expected_db"), [(1.6, 3.229), (4.27, 5.403), (10.97, 6.629), (34.28, 7.165)]
)
def test_eesm_of_0_and_10_db_is_the_reference_value(beta, expected_db):
    assert eesm_db(TWO_DB, beta) == pytest.approx(expected_db, abs=5e-4)


def test_eesm_is_the_closed_form_to_six_digits():
    closed = 10 * np.log10(-4.27 * np.log((np.exp(-1 / 4.27) + np.exp(-10 / 4.27)) / 2))
    assert closed == pytest.approx(5.4034, abs=5e-5)
    assert eesm_db(TWO_DB, 4.27) == pytest.approx(closed, abs=1e-6)


@given(level_db=st.floats(-25, 60), count=st.integers(1, 50), beta=st.floats(1e-3, 1e4))
def test_equal_sinrs_give_themselves(level_db, count, beta):
    equal = np.full(count, level_db)
    assert eesm_db(equal, beta) == pytest.approx(level_db, abs=1e-9)
    for modulation_order in (2, 4, 6, 8):
        assert miesm_db(equal, modulation_order) == pytest.approx(level_db, abs=1e-9)


@given(levels_db=LEVELS, beta=st.floats(0.1, 200.0), modulation_order=st.sampled_from((2, 4, 6, 8)))
def test_the_effective_sinr_lies_between_the_extremes(levels_db, beta, modulation_order):
    for effective_db in (eesm_db(levels_db, beta), miesm_db(levels_db, modulation_order)):
        assert levels_db.min() - 1e-9 <= effective_db <= levels_db.max() + 1e-9


@given(levels_db=LEVELS, place=st.integers(0, 19), more_db=st.floats(0, 20), beta=st.floats(0.1, 200.0))
def test_a_better_block_never_makes_it_worse(levels_db, place, more_db, beta):
    better_db = levels_db.copy()
    better_db[place % levels_db.size] += more_db
    assert eesm_db(better_db, beta) >= eesm_db(levels_db, beta) - 1e-9
    assert miesm_db(better_db, 4) >= miesm_db(levels_db, 4) - 1e-9


def test_a_large_beta_averages_and_a_small_one_takes_the_least():
    levels = np.array([1.0, 4.0, 25.0])
    assert eesm(levels, 1e9) == pytest.approx(10.0, rel=1e-6)
    assert eesm(levels, 1e-6) == pytest.approx(1.0, abs=1e-5)


def test_neither_map_overflows():
    assert eesm_db(np.array([-300.0, 60.0]), 1.6) == pytest.approx(10 * np.log10(1.6 * np.log(2.0)))
    assert miesm_db(np.array([-300.0, 60.0]), 4) < 60.0


def test_many_links_with_schemes_of_their_own_are_mapped_at_once():
    levels_db = stream(0, "links").normal(10.0, 6.0, size=(5, 7, 12))
    beta = np.linspace(1.0, 30.0, 7)
    together = eesm_db(levels_db, beta)
    assert together.shape == miesm_db(levels_db, 6).shape == (5, 7)
    assert together[2, 3] == pytest.approx(eesm_db(levels_db[2, 3], beta[3]))


def test_with_fitted_betas_the_two_maps_agree_where_blocks_begin_to_fail():
    table = mcs_table("64qam")
    law = BlockErrorLaw.of(table)
    for scheme in (4, 12, 20, 28):
        order, s50_db = int(table.modulation_order_I[scheme]), float(law.s50_db_I[scheme])
        faded_db = s50_db + 10 * np.log10(stream(0, "fading", scheme).exponential(size=(200, 24)))
        faded_db -= (miesm_db(faded_db, order) - s50_db)[:, None]
        error_db = eesm_db(faded_db, law.beta_I[scheme]) - miesm_db(faded_db, order)
        # Independent blocks are a harsher channel than the one that the betas were fitted to.
        assert np.sqrt(np.mean(error_db**2)) < 0.25


@pytest.mark.parametrize("beta", [0.0, -1.0, np.nan])
def test_a_beta_that_is_not_above_zero_is_refused(beta):
    with pytest.raises(BadParameter, match="beta must be above 0, got"):
        eesm(np.ones(3), beta)
