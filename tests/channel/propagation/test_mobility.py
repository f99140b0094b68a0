import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.propagation.mobility import Mobility, Straight, Track, doppler_hz

ANY_ORDER_S = np.array([7.5, 0.0, 1e4, 3.25, 7.5])


def walkers():
    rng = stream(0, "walkers")
    start, velocity = rng.random((40, 2)) * [100.0, 50.0], rng.normal(size=(40, 2)) * 3.0
    return Straight(start_N2=start, velocity_N2=velocity, box_m=(100.0, 50.0))


def test_without_walls_users_go_straight_on():
    users = Straight(start_N2=np.array([[1.0, 2.0]]), velocity_N2=np.array([[3.0, -1.0]]))
    assert users.at(np.array([0.0, 2.0])).tolist() == [[[1.0, 2.0]], [[7.0, 0.0]]]


def test_users_are_reflected_at_the_edges_and_stay_in_the_box():
    mirrored = Straight(
        start_N2=np.array([[9.0, 5.0]]), velocity_N2=np.array([[2.0, 0.0]]), box_m=(10.0, 10.0)
    )
    assert mirrored.at(np.array([0.0, 0.5, 1.0, 6.0])).tolist() == [[[9, 5]], [[10, 5]], [[9, 5]], [[1, 5]]]
    places_m = walkers().at(np.linspace(0.0, 1e4, 1000))
    assert (places_m >= 0.0).all()
    assert (places_m <= [100.0, 50.0]).all()
    assert places_m.mean(axis=(0, 1)) == pytest.approx([50.0, 25.0], rel=0.05)


def test_a_random_waypoint_user_keeps_its_speed_and_stays_in_the_box():
    user = Track.random_waypoint(stream(0, "walk"), box_m=(100.0, 50.0), speed_m_s=1.5, duration_s=600.0)
    places_m = user.at(np.linspace(0.0, 600.0, 60001))[:, 0]
    assert ((places_m >= 0.0) & (places_m <= [100.0, 50.0])).all()
    step_m = np.hypot(*np.diff(places_m, axis=0).T)
    assert (step_m <= 0.015 + 1e-9).all()
    assert np.isclose(step_m, 0.015).mean() > 0.99


def test_a_track_passes_its_places_at_its_times():
    track = Track(
        time_K=np.array([1.0, 2.0, 4.0]), place_KN2=np.array([[[0.0, 0.0]], [[2.0, 0.0]], [[2.0, 8.0]]])
    )
    assert track.at(np.array([4.0, 1.0, 1.5, 2.0, 3.0]))[:, 0].tolist() == [
        [2, 8],
        [0, 0],
        [1, 0],
        [2, 0],
        [2, 4],
    ]
    still = Track(time_K=np.array([1.0]), place_KN2=np.array([[[5.0, 6.0]]]))
    assert still.at(np.array([1.0])).tolist() == [[[5.0, 6.0]]]


def test_the_order_of_asking_changes_nothing():
    users: Mobility = walkers()
    together = users.at(ANY_ORDER_S)
    assert np.array_equal(together[0], together[4])
    for time_s, places_m in zip(ANY_ORDER_S, together, strict=True):
        assert np.array_equal(users.at(np.array([time_s]))[0], places_m)


def test_thirty_metres_a_second_at_three_and_a_half_gigahertz_shift_by_350_hertz():
    assert doppler_hz(30.0, 3.5e9) == pytest.approx(350.24, abs=0.01)


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: doppler_hz(-1.0, 1e9), "speed_m_s must be at least 0, got -1.0"),
        (lambda: Straight(start_N2=np.zeros((2, 2)), velocity_N2=np.zeros((3, 2))), r"must both be \(N, 2\)"),
        (
            lambda: Straight(
                start_N2=np.full((1, 2), 11.0), velocity_N2=np.zeros((1, 2)), box_m=(10.0, 10.0)
            ),
            "start_N2 must lie in the box",
        ),
        (lambda: Track(time_K=np.array([0.0, 0.0]), place_KN2=np.zeros((2, 1, 2))), "time_K must increase"),
        (
            lambda: Track(time_K=np.arange(3.0), place_KN2=np.zeros((2, 1, 2))),
            r"place_KN2 must be \(3, N, 2\)",
        ),
        (
            lambda: Track(time_K=np.arange(2.0), place_KN2=np.zeros((2, 1, 2))).at(np.array([1.5])),
            r"time_s must lie on the track, in \[0.0, 1.0\]",
        ),
        (
            lambda: Track.random_waypoint(stream(0), box_m=(1.0, 1.0), speed_m_s=0.0, duration_s=1.0),
            "speed_m_s must be above 0, got 0.0",
        ),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
