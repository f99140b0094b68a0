"""Offsets of clocks: the truth lies within the error bar, also between two measurements."""

import pytest

from testbed.clocks import ClockOffset, NodeClock, measure


class Machines:
    """This machine's clock and a node's, `ahead_s` of it; a request takes `there_s`, its answer `back_s`."""

    def __init__(self, ahead_s: float, trips: list[tuple[float, float]]) -> None:
        self.now_s, self._ahead_s, self._trips = 1000.0, ahead_s, iter(trips)

    def ask(self) -> float:
        there_s, back_s = next(self._trips)
        self.now_s += there_s
        answer_s = self.now_s + self._ahead_s
        self.now_s += back_s
        return answer_s


@pytest.mark.parametrize("ahead_s", [-3600.0, 0.0, 0.25])
def test_the_fastest_request_counts_and_its_margin_holds_for_unequal_ways(ahead_s: float) -> None:
    machines = Machines(ahead_s, [(0.5, 0.1), (0.03, 0.01), (0.2, 0.2), (0.1, 0.4), (0.3, 0.1)])
    offset = measure(machines.ask, lambda: machines.now_s)
    assert offset.within_s == pytest.approx(0.02)
    assert abs(offset.ahead_s - ahead_s) <= offset.within_s + 1e-9
    assert offset.ahead_s != pytest.approx(ahead_s, abs=1e-6)  # the ways differ, so it is not exact


def test_a_drift_is_followed_between_measurements() -> None:
    """The node gains 1 ms a second: it is 0 s ahead at 100 s, and 0.1 s ahead at 200 s."""
    clock = NodeClock(
        [
            ClockOffset(at_s=200.0, ahead_s=0.1, within_s=0.002),
            ClockOffset(at_s=100.0, ahead_s=0.0, within_s=0.001),
        ]
    )
    assert clock.here(150.05) == (pytest.approx(150.0), 0.002)
    assert clock.here(90.0) == (pytest.approx(90.0), 0.001)
    assert clock.here(300.1) == (pytest.approx(300.0), 0.002)
    with pytest.raises(ValueError, match="needs a measured offset"):
        NodeClock([])
