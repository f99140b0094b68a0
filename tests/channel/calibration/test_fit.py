import numpy as np
import pytest

from channel.calibration.fit import crossing_db, fitted
from channel.calibration.simulation import BlerCurve
from channel.calibration.sweep import Point
from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.core.special_functions import gaussian_tail
from tests.quick import quick

CURVE = BlerCurve(2, 308.0, 1000)


def drawn(number, *, s50_db=3.0, slope=4.0, bits=1000, blocks=5000):
    curve = BlerCurve(2, 308.0, bits)
    rng = stream(0, "fit", number)
    level_db = s50_db + np.linspace(-1.8, 2.4, 8) / (slope * np.sqrt(bits / 1000))
    rate = gaussian_tail(slope * np.sqrt(bits / 1000) * (level_db - s50_db))
    errors = rng.binomial(blocks, rate)
    return [
        Point(curve, snr, blocks, count)
        for snr, count in zip(level_db.tolist(), errors.tolist(), strict=True)
    ]


@pytest.mark.parametrize("bits", quick([250, 1000, 4000], 250))
def test_the_fit_recovers_parameters_within_its_standard_errors(bits):
    fits = [fitted(drawn(number, bits=bits)) for number in range(200)]
    for found, error, true in (
        ([fit.s50_db for fit in fits], [fit.s50_error_db for fit in fits], 3.0),
        ([fit.slope_per_db for fit in fits], [fit.slope_error_per_db for fit in fits], 4.0),
    ):
        assert np.std(found) == pytest.approx(np.mean(error), rel=0.25)
        assert np.mean(found) == pytest.approx(true, abs=4 * np.std(found) / np.sqrt(200))


def test_points_that_no_line_fits_widen_the_errors():
    points = drawn(0)
    bent = [*points[:3], Point(points[3].curve, points[3].snr_db, 5000, points[3].errors - 500), *points[4:]]
    assert fitted(bent).s50_error_db > 3 * fitted(points).s50_error_db
    assert fitted(bent).miss_db > 0.02 > fitted(points).miss_db


def test_the_order_of_the_points_does_not_matter():
    points = drawn(1)
    backwards = fitted(points[::-1])
    assert backwards.s50_db == pytest.approx(fitted(points).s50_db, abs=1e-12)


def test_a_crossing_lies_where_the_points_have_it():
    points = drawn(2, blocks=1_000_000)
    assert crossing_db(points, 0.1) == pytest.approx(3.0 + 1.2816 / 4.0, abs=2e-3)
    with pytest.raises(BadParameter, match="target must lie within the simulated points, got 1e-06"):
        crossing_db(points, 1e-6)


def test_too_few_points_are_refused():
    points = [Point(CURVE, float(snr), 100, errors) for snr, errors in enumerate((100, 50, 20, 0))]
    with pytest.raises(
        BadParameter, match="must have 3 SNRs at which some blocks fail and some do not, got 2"
    ):
        fitted(points)
