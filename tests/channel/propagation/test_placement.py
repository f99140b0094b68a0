import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.propagation.placement import distances_m, hexagonal_sites, poisson_in_disc, uniform_in_disc


def test_users_are_uniform_in_area():
    radius_m = np.hypot(*uniform_in_disc(stream(0, "users"), 20_000, radius_m=500.0, inner_m=35.0).T)
    assert radius_m.min() >= 35.0
    assert radius_m.max() <= 500.0
    share = (radius_m**2 - 35.0**2) / (500.0**2 - 35.0**2)
    assert np.histogram(share, bins=10, range=(0, 1))[0] / 20_000 == pytest.approx(0.1, abs=0.01)


def test_a_poisson_process_has_a_poisson_number_of_places():
    counts = [
        len(poisson_in_disc(stream(0, "drop", drop), per_m2=1e-4, radius_m=200.0)) for drop in range(2000)
    ]
    mean = 1e-4 * np.pi * 200.0**2
    assert np.mean(counts) == pytest.approx(mean, rel=0.03)
    assert np.var(counts) == pytest.approx(mean, rel=0.1)


@pytest.mark.parametrize(("rings", "count"), [(0, 1), (1, 7), (2, 19), (3, 37)])
def test_hexagonal_sites_have_six_neighbours_at_the_spacing(rings, count):
    sites_m = hexagonal_sites(rings, spacing_m=500.0)
    assert sites_m.shape == (count, 2)
    assert sites_m[0].tolist() == [0.0, 0.0]
    apart_m = distances_m(sites_m, sites_m)[~np.eye(count, dtype=bool)].reshape(count, -1)
    if rings:
        assert apart_m.min() == pytest.approx(500.0)
        assert np.isclose(apart_m[0], 500.0).sum() == 6


def test_distances_are_between_each_user_and_each_site():
    users_m = np.array([[[0.0, 0.0], [3.0, 0.0]]])
    assert distances_m(users_m, np.array([[0.0, 4.0], [3.0, 1.0], [0.0, 0.0]])).tolist() == [
        [[4.0, np.sqrt(10.0), 0.0], [5.0, 1.0, 3.0]]
    ]


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (
            lambda: uniform_in_disc(stream(0), 1, radius_m=5.0, inner_m=5.0),
            "radius_m must be above 5, got 5.0",
        ),
        (
            lambda: uniform_in_disc(stream(0), -1, radius_m=5.0),
            "count must be a whole number of at least 0, got -1",
        ),
        (lambda: poisson_in_disc(stream(0), per_m2=0.0, radius_m=5.0), "per_m2 must be above 0, got 0.0"),
        (lambda: hexagonal_sites(-1, spacing_m=5.0), "rings must be a whole number of at least 0, got -1"),
        (lambda: hexagonal_sites(1, spacing_m=0.0), "spacing_m must be above 0, got 0.0"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
