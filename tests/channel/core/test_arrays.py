import numpy as np
import pytest

from channel.core.arrays import above, at_least, whole, within
from channel.core.errors import BadParameter


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: at_least("power_w", -1.0, 0.0), "power_w must be at least 0, got -1.0"),
        (lambda: at_least("power_w", np.array([1.0, np.nan]), 0.0), "power_w must be at least 0, got nan"),
        (lambda: above("distance_m", np.array([1.0, 0.0]), 0.0), "distance_m must be above 0, got 0.0"),
        (lambda: above("distance_m", np.inf, 0.0), "distance_m must be a finite number, got inf"),
        (lambda: within("duty", 1.3, 0.0, 1.0), r"duty must lie in \[0, 1\], got 1.3"),
        (lambda: within("duty", np.nan, 0.0, 1.0), r"duty must lie in \[0, 1\], got nan"),
        (lambda: whole("tries", 0, 1), "tries must be a whole number of at least 1, got 0"),
        (lambda: whole("tries", 1.5, 1), "tries must be a whole number of at least 1, got 1.5"),
    ],
)
def test_values_out_of_range_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()


def test_values_in_range_are_returned_as_float64():
    for values in (at_least("x", 0, 0.0), above("x", [1, 2], 0.0), within("x", np.array([0, 1]), 0.0, 1.0)):
        assert values.dtype == np.float64
    assert whole("count", 3, 0) == 3
