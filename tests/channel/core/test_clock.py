import pytest

from channel.core.clock import Clock, SimulatedClock, WallClock
from channel.core.errors import BadParameter


@pytest.mark.parametrize("make", [SimulatedClock, WallClock])
def test_every_clock_starts_at_zero(make):
    clock: Clock = make()
    assert 0.0 <= clock.now_s() < 1.0


def test_the_virtual_clock_has_the_time_it_was_advanced_to():
    clock = SimulatedClock()
    clock.advance_to(12.5)
    clock.advance_to(12.5)
    assert clock.now_s() == 12.5


@pytest.mark.parametrize("time_s", [0.9, -1.0, float("nan")])
def test_the_virtual_clock_never_goes_back(time_s):
    clock = SimulatedClock()
    clock.advance_to(1.0)
    with pytest.raises(BadParameter, match=r"time_s must be at least the present 1\.0, got"):
        clock.advance_to(time_s)
    assert clock.now_s() == 1.0


def test_the_wall_clock_never_wakes_early():
    clock = WallClock()
    for step in range(1, 6):
        late_s = clock.sleep_until(0.004 * step)
        assert clock.now_s() >= 0.004 * step
        assert late_s >= 0.0


def test_the_wall_clock_returns_its_lateness():
    clock = WallClock()
    clock.sleep_until(0.01)
    assert clock.sleep_until(-5.0) >= 5.01


def test_the_wall_clock_does_not_sleep_until_a_time_that_is_no_number():
    with pytest.raises(BadParameter, match="time_s must be a number"):
        WallClock().sleep_until(float("nan"))
