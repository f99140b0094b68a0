import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.propagation.interference import received_w, sinr
from channel.propagation.noise import noise_w
from channel.propagation.path_loss import ENVIRONMENTS, environment_named, free_space_db, log_distance_db

OUTDOORS_M = np.array([50.0, 100.0, 200.0, 500.0])
MACRO, MICRO = ENVIRONMENTS["urban-macro"], ENVIRONMENTS["urban-micro"]
OFFICE, OPEN_OFFICE = ENVIRONMENTS["indoor-mixed-office"], ENVIRONMENTS["indoor-open-office"]


# Conformance row 14, to 0.01 dB: here and in the five tests that follow
@pytest.mark.parametrize(
    ("distance_m", "frequency_hz", "loss_db"),
    [(1.0, 2.4e9, 40.05), (100.0, 1e9, 72.45), (100.0, 3.5e9, 83.33)],
)
def test_free_space_loss_follows_friis(distance_m, frequency_hz, loss_db):
    assert free_space_db(distance_m, frequency_hz) == pytest.approx(loss_db, abs=0.01)


def test_log_distance_loses_ten_n_decibels_a_decade():
    assert log_distance_db(100.0, exponent=3.5, reference_db=40.0) == pytest.approx(110.0)
    assert log_distance_db(50.0, exponent=3.5, reference_db=72.0, reference_m=50.0) == pytest.approx(72.0)
    same = log_distance_db(OUTDOORS_M, exponent=2.0, reference_db=free_space_db(1.0, 1e9))
    assert same == pytest.approx(free_space_db(OUTDOORS_M, 1e9))


@pytest.mark.parametrize(
    ("environment", "los_db", "nlos_db"),
    [
        (MACRO, [77.21, 83.14, 89.57, 98.27], [92.51, 103.04, 114.46, 129.92]),
        (MICRO, [79.09, 85.31, 91.61, 107.11], [94.18, 104.64, 115.23, 129.26]),
    ],
)
def test_outdoor_losses_are_those_of_tr_38901(environment, los_db, nlos_db):
    assert environment.path_loss_db(OUTDOORS_M, 3.5e9, True) == pytest.approx(los_db, abs=0.01)
    assert environment.path_loss_db(OUTDOORS_M, 3.5e9, False) == pytest.approx(nlos_db, abs=0.01)


def test_indoor_losses_are_those_of_tr_38901():
    along_m = np.sqrt(20.0**2 - 2.0**2)
    assert OFFICE.path_loss_db(along_m, 3.5e9, True) == pytest.approx(65.79, abs=0.01)
    assert OFFICE.path_loss_db(along_m, 3.5e9, False) == pytest.approx(80.68, abs=0.01)


def test_the_breakpoint_is_that_of_tr_38901_and_the_loss_has_no_step_there():
    assert MACRO.breakpoint_m(3.5e9) == pytest.approx(560.0)
    assert MICRO.breakpoint_m(3.5e9) == pytest.approx(210.0)
    assert np.isinf(OFFICE.breakpoint_m(3.5e9))
    for environment in (MACRO, MICRO):
        edge_m = float(environment.breakpoint_m(3.5e9))
        before, after = environment.path_loss_db(np.array([edge_m, edge_m * (1 + 1e-9)]), 3.5e9, True)
        assert after == pytest.approx(before, abs=1e-6)


@pytest.mark.parametrize(
    ("environment", "probability"), [(MACRO, [0.6494, 0.3477, 0.1280]), (MICRO, [0.5196, 0.2310, 0.0935])]
)
def test_the_chance_of_sight_outdoors_is_that_of_tr_38901(environment, probability):
    # The reference value of UMi at 200 m is given to three digits and a half.
    assert environment.los_probability(OUTDOORS_M[:3]) == pytest.approx(probability, abs=1e-4)
    assert environment.los_probability(np.array([0.0, 18.0])) == pytest.approx(1.0)


# Table 7.4.2-1, worked out by hand
@pytest.mark.parametrize(
    ("environment", "distance_m", "probability"),
    [
        (OFFICE, [1.2, 5.9, 39.1], [1.0, np.exp(-1), 0.32 * np.exp(-1)]),
        (OPEN_OFFICE, [5.0, 40.4, 260.7], [1.0, np.exp(-0.5), 0.54 * np.exp(-1)]),
    ],
)
def test_the_chance_of_sight_indoors_is_that_of_tr_38901(environment, distance_m, probability):
    assert environment.los_probability(np.array(distance_m)) == pytest.approx(probability, rel=1e-12)


def test_shadowing_constants_are_those_of_tr_38901():
    assert (MACRO.shadow_db, MACRO.decorrelation_m) == ((4.0, 6.0), (37.0, 50.0))
    assert (MICRO.shadow_db, MICRO.decorrelation_m) == ((4.0, 7.82), (10.0, 13.0))
    assert (OFFICE.shadow_db, OFFICE.decorrelation_m) == ((3.0, 8.03), (10.0, 6.0))


@given(
    environment=st.sampled_from(sorted(ENVIRONMENTS)),
    near_m=st.floats(0.0, 5000.0),
    more_m=st.floats(0.0, 5000.0),
    frequency_hz=st.floats(0.5e9, 100e9),
    is_los=st.booleans(),
)
def test_more_distance_never_gives_more_sinr(environment, near_m, more_m, frequency_hz, is_los):
    loss_db = ENVIRONMENTS[environment].path_loss_db(
        np.array([near_m, near_m + more_m]), frequency_hz, is_los
    )
    near, far = sinr(received_w(0.2, loss_db), 1e-13, noise_w(1e7, noise_figure_db=7.0))
    assert far <= near * (1 + 1e-12)


@given(
    distance_m=st.floats(0.0, 5000.0),
    more_m=st.floats(0.0, 5000.0),
    environment=st.sampled_from(sorted(ENVIRONMENTS)),
)
def test_sight_is_never_likelier_further_away_and_never_loses_more(distance_m, more_m, environment):
    row = ENVIRONMENTS[environment]
    near, far = row.los_probability(np.array([distance_m, distance_m + more_m]))
    assert 0.0 <= far <= near <= 1.0
    assert row.path_loss_db(distance_m, 3.5e9, False) >= row.path_loss_db(distance_m, 3.5e9, True)


def test_sight_is_decided_user_by_user():
    mixed = MACRO.path_loss_db(np.array([100.0, 100.0]), 3.5e9, np.array([True, False]))
    assert mixed == pytest.approx([83.14, 103.04], abs=0.01)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: MACRO.path_loss_db(-1.0, 3.5e9, True), "distance_2d_m must be at least 0, got -1.0"),
        (lambda: MACRO.los_probability(-1.0), "distance_2d_m must be at least 0, got -1.0"),
        (
            lambda: MACRO.path_loss_db(10.0, 3.5, True),
            r"frequency_hz must lie in \[5e\+08, 1e\+11\], got 3.5",
        ),
        (lambda: free_space_db(0.0, 1e9), "distance_m must be above 0, got 0.0"),
        (lambda: free_space_db(1.0, -1e9), "frequency_hz must be above 0, got -1"),
        (
            lambda: log_distance_db(1.0, exponent=-2.0, reference_db=40.0),
            "exponent must be at least 0, got -2",
        ),
        (
            lambda: dataclasses.replace(OFFICE, user_height_m=3.0).path_loss_db(0.0, 3.5e9, True),
            "3D distance must be above 0, got 0.0",
        ),
        (
            lambda: dataclasses.replace(MACRO, user_height_m=20.0),
            r"user_height_m must lie in \[1.5, 13\], got 20",
        ),
        (lambda: dataclasses.replace(MICRO, base_height_m=1.0), "base_height_m must be above 1, got 1.0"),
        (lambda: environment_named("moon"), "environment must be one of urban-macro, .* got 'moon'"),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
