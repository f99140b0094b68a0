import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.units import db_to_ratio, dbm_to_w, ratio_to_db, w_to_dbm

VALUES = [(0.0, 1.0), (10.0, 10.0), (-30.0, 1e-3), (3.0, 1.9952623149688795)]


@pytest.mark.parametrize(("level_db", "ratio"), VALUES)
def test_decibels_are_ten_times_the_decimal_logarithm(level_db, ratio):
    assert db_to_ratio(level_db) == pytest.approx(ratio, rel=1e-15)
    assert ratio_to_db(ratio) == pytest.approx(level_db, abs=1e-14)


def test_a_handset_of_23_dbm_radiates_a_fifth_of_a_watt():
    assert dbm_to_w(23.0) == pytest.approx(0.2, rel=3e-3)
    assert w_to_dbm(1.0) == pytest.approx(30.0)


def test_arrays_go_there_and_back():
    level_db = np.linspace(-120.0, 60.0, 181)
    assert np.allclose(ratio_to_db(db_to_ratio(level_db)), level_db, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ratio", [0.0, -1.0, float("nan")])
def test_values_not_above_zero_have_no_decibels(ratio):
    with pytest.raises(BadParameter, match="must be above 0, got"):
        ratio_to_db(ratio)
    with pytest.raises(BadParameter, match="must be above 0, got"):
        w_to_dbm(np.array([1.0, ratio]))
