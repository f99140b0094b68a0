import pytest

from channel.core.clock import SimulatedClock
from channel.iq.pace import AirPace


def test_samples_are_due_at_their_rate_from_the_first_on():
    clock = SimulatedClock()
    clock.advance_to(100.0)
    pace = AirPace(clock, rate_hz=1000.0, is_real=True)
    assert pace.wait_s(0, 10) == pytest.approx(0.01)
    clock.advance_to(100.01)
    assert pace.wait_s(0, 10) == 0.0
    pace.release(10)
    assert pace.wait_s(10, 30) == pytest.approx(0.02)


def test_a_late_block_moves_all_that_follow_and_nothing_catches_up():
    clock = SimulatedClock()
    pace = AirPace(clock, rate_hz=1000.0, is_real=True)
    pace.wait_s(0, 10)
    clock.advance_to(0.5)
    pace.release(10)
    assert pace.wait_s(10, 20) == pytest.approx(0.01)
    assert pace.slips.slipped_s == pytest.approx(0.49)
    assert pace.slips.late_blocks == 1
    clock.advance_to(0.6)
    pace.release(20)
    assert pace.slips.worst_late_s == pytest.approx(0.49)
    assert pace.slips.slipped_s == pytest.approx(0.58)


def test_the_granularity_of_timers_is_no_slip():
    clock = SimulatedClock()
    pace = AirPace(clock, rate_hz=1000.0, is_real=True)
    pace.wait_s(0, 10)
    clock.advance_to(0.0149)
    pace.release(10)
    assert pace.slips.late_blocks == 0
    assert pace.wait_s(10, 20) == pytest.approx(0.0051)


def test_a_pause_is_no_slip():
    clock = SimulatedClock()
    pace = AirPace(clock, rate_hz=1000.0, is_real=True)
    pace.wait_s(0, 10)
    pace.pause()
    clock.advance_to(60.0)
    assert pace.wait_s(0, 10) == pytest.approx(0.01)
    assert pace.slips.slipped_s == 0.0


def test_without_pace_everything_is_due():
    pace = AirPace(SimulatedClock(), rate_hz=1000.0, is_real=False)
    assert pace.wait_s(0, 10**9) == 0.0
    pace.release(10**9)
    assert pace.slips.late_blocks == 0
