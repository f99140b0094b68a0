import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.markov import TwoState
from channel.core.rng import stream

PROCESS = TwoState(seed=0, name=("jam", 1), mean_on_s=0.2, mean_off_s=0.6)


def test_it_is_on_for_its_share_of_the_time_and_its_bursts_last_their_mean():
    is_on = PROCESS.is_on(np.arange(1_000_000) * 0.002)
    bursts = np.sum(is_on[1:] & ~is_on[:-1])
    assert PROCESS.duty == pytest.approx(0.25)
    assert is_on.mean() == pytest.approx(0.25, rel=0.05)
    assert is_on.sum() * 0.002 / bursts == pytest.approx(0.2, rel=0.05)


def test_its_memory_fades_exponentially():
    is_on = PROCESS.is_on(np.arange(400_000) * 0.01)
    for lag in (1, 5, 15):
        both = float((is_on[:-lag] & is_on[lag:]).mean())
        share = (both - 0.25**2) / (0.25 * 0.75)
        assert share == pytest.approx(np.exp(-PROCESS.refresh_hz * lag * 0.01), abs=0.02)


def test_stays_are_exponential():
    is_on = PROCESS.is_on(np.arange(1_000_000) * 0.002)
    turns = np.flatnonzero(np.diff(is_on.astype(np.int8))) + 1
    stays_s = np.diff(turns) * 0.002
    for state, mean_s in ((True, 0.2), (False, 0.6)):
        lasted_s = stays_s[is_on[turns[:-1]] == state]
        for times in (0.5, 1.0, 2.0):
            assert np.mean(lasted_s > times * mean_s) == pytest.approx(np.exp(-times), abs=0.03)


def test_the_order_and_number_of_questions_change_nothing():
    times_s = stream(0, "times").random(2000) * 1e5 - 5e4
    together = PROCESS.is_on(times_s)
    assert np.array_equal(PROCESS.is_on(times_s[::-1])[::-1], together)
    assert np.array_equal(PROCESS.is_on(times_s.reshape(40, 50)), together.reshape(40, 50))
    for number in range(0, 2000, 97):
        assert PROCESS.is_on(times_s[number]) == together[number]


def test_another_name_or_seed_is_another_process():
    times_s = np.arange(2000) * 1.0
    found = [
        TwoState(seed=seed, name=name, mean_on_s=0.2, mean_off_s=0.2).is_on(times_s)
        for seed, name in [(0, ("a",)), (1, ("a",)), (0, ("b",)), (0, ("a", 0))]
    ]
    for one in range(4):
        for other in range(one):
            assert (found[one] == found[other]).mean() == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(("mean_on_s", "mean_off_s"), [(0.0, 1.0), (1.0, -1.0)])
def test_a_stay_that_takes_no_time_is_refused(mean_on_s, mean_off_s):
    with pytest.raises(BadParameter, match=r"mean_o(n|ff)_s must be above 0, got"):
        TwoState(seed=0, name=(), mean_on_s=mean_on_s, mean_off_s=mean_off_s)
