import math

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.propagation.shadowing import ShadowField, has_line_of_sight, shadow_margin_db, shadow_outage


def fields(count, decorrelation_m, **settings):
    draws = (stream(0, "shadow", number) for number in range(count))
    return [ShadowField.draw(rng, decorrelation_m=decorrelation_m, **settings) for rng in draws]


# Conformance row 15: 1 m steps, decorrelation 37 m, 2e5 places in all
@pytest.mark.parametrize("direction", [pytest.param((1.0, 0.0), marks=pytest.mark.slow), (0.6, 0.8)])
def test_shadowing_correlation_follows_gudmundson(direction):
    track_m = np.arange(1000.0)[:, None] * np.array(direction)
    values = np.stack([field.at(track_m) for field in fields(200, 37.0)])
    for lag in (0, 10, 37, 74):
        found = float((values[:, : 1000 - lag] * values[:, lag:]).mean())
        assert found == pytest.approx(np.exp(-lag / 37.0), abs=0.03)


def test_shadowing_is_standard_normal():
    values = np.array([field.at(np.zeros((1, 2)))[0] for field in fields(2000, 20.0)])
    assert values.mean() == pytest.approx(0.0, abs=0.07)
    assert values.std() == pytest.approx(1.0, abs=0.05)
    assert (np.abs(values) > 1.96).mean() == pytest.approx(0.05, abs=0.015)


def test_a_position_has_one_value_in_any_order_of_evaluation():
    field = fields(1, 37.0)[0]
    places_m = stream(1, "places").random((5000, 2)) * 1000.0
    together = field.at(places_m)
    assert np.array_equal(field.at(places_m[::-1])[::-1], together)
    assert all(field.at(places_m[number]) == together[number] for number in (0, 1, 4095, 4096, 4999))
    assert field.at(places_m.reshape(50, 100, 2)).shape == (50, 100)


def test_sight_has_its_probability_and_neighbours_share_it():
    sight = fields(1000, 50.0)
    here = np.array([float(field.at(np.zeros(2))) for field in sight])
    near = np.array([float(field.at(np.array([1.0, 0.0]))) for field in sight])
    assert has_line_of_sight(here, 0.3).mean() == pytest.approx(0.3, abs=0.045)
    assert (has_line_of_sight(here, 0.3) == has_line_of_sight(near, 0.3)).mean() > 0.9
    assert has_line_of_sight(here, 1.0).all()
    assert not has_line_of_sight(here, 0.0).any()


def test_a_margin_of_so_many_sigma_has_the_outage_of_a_gaussian_tail():
    assert shadow_outage(0.0, 8.0) == pytest.approx(0.5)
    assert shadow_outage(8.0, 8.0) == pytest.approx(0.158655, rel=1e-5)
    assert shadow_outage(shadow_margin_db(0.05, 6.0), 6.0) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decorrelation_m": 0.0}, "decorrelation_m must be above 0, got 0.0"),
        ({"decorrelation_m": 10.0, "num_waves": 0}, "num_waves must be a whole number of at least 1, got 0"),
    ],
)
def test_a_field_that_makes_no_sense_is_refused_by_name(settings, message):
    with pytest.raises(BadParameter, match=message):
        ShadowField.draw(stream(0), **settings)


@pytest.mark.slow
def test_zero_crossings_of_a_smooth_field_follow_rice():
    line_m = np.stack([np.arange(0.0, 20_000.0, 1.0), np.zeros(20_000)], axis=-1)
    fields = [ShadowField.draw_smooth(stream(number, "smooth"), decorrelation_m=50.0) for number in range(10)]
    signs = np.array([field.at(line_m) > 0.0 for field in fields])
    rising = (~signs[:, :-1] & signs[:, 1:]).sum() / (len(fields) * 20_000.0)
    assert rising == pytest.approx(math.sqrt(2.0) / (2.0 * math.pi * 50.0), rel=0.05)
