import pytest

from channel.core.errors import BadParameter
from channel.propagation.noise import noise_dbm, noise_w


def test_noise_powers_are_the_reference_values():
    assert noise_dbm(1.0) == pytest.approx(-173.975, abs=1e-3)
    assert noise_dbm(10e6, noise_figure_db=7.0) == pytest.approx(-97.0, abs=0.05)
    assert noise_dbm(20e6, noise_figure_db=9.0) == pytest.approx(-92.0, abs=0.05)
    assert noise_w(180e3) == pytest.approx(7.207e-16, rel=1e-4)


@pytest.mark.parametrize(
    ("bandwidth_hz", "noise_figure_db", "message"),
    [
        (0.0, 7.0, "bandwidth_hz must be above 0, got 0.0"),
        (-1e6, 7.0, "bandwidth_hz must be above 0, got -1000000.0"),
        (1e6, -1.0, "noise_figure_db must be at least 0, got -1.0"),
    ],
)
def test_a_receiver_that_makes_no_sense_is_refused_by_name(bandwidth_hz, noise_figure_db, message):
    with pytest.raises(BadParameter, match=message):
        noise_w(bandwidth_hz, noise_figure_db=noise_figure_db)
