import numpy as np
import pytest

from channel.errors import BadParameter
from channel.scheduler import SCHEDULERS, Duplex, RoundRobin, averaged, scheduler_named


@pytest.mark.parametrize("name", SCHEDULERS)
def test_only_those_who_can_send_get_a_group(name):
    rate = np.asarray([[0.0, 2.0, 0.0, 1.0], [0.0, 1.0, 0.0, 3.0]])
    for turn in range(5):
        assert set(scheduler_named(name).choose(rate, np.ones(4), turn).tolist()) <= {1, 3}


def test_round_robin_gives_everybody_equally_many():
    served = [RoundRobin().choose(np.ones((3, 5)), np.ones(5), 3 * slot) for slot in range(5)]
    assert np.bincount(np.concatenate(served)).tolist() == [3] * 5


def test_maximum_rate_looks_at_the_rate_and_fairness_at_the_share():
    rate, mean = np.asarray([[10.0, 1.0]]), np.asarray([100.0, 1.0])
    assert SCHEDULERS["maximum-rate"].choose(rate, mean, 0).tolist() == [0]
    assert SCHEDULERS["proportional-fair"].choose(rate, mean, 0).tolist() == [1]


def test_the_mean_forgets_exponentially():
    mean = averaged(np.asarray([1.0]), np.asarray([0.0]), step_s=1.0, window_s=1.0)
    assert mean[0] == pytest.approx(np.exp(-1.0))


def test_a_pattern_opens_each_slot_to_one_direction():
    duplex, slots = Duplex(pattern="DDU"), np.arange(6)
    assert duplex.is_open("down", slots).tolist() == [True, True, False] * 2
    assert duplex.is_open("up", slots).tolist() == [False, False, True] * 2
    assert duplex.share("up") == pytest.approx(1 / 3)
    assert Duplex().share("up") == Duplex().share("down") == 1.0


def test_bad_input_is_refused():
    with pytest.raises(BadParameter, match=r"scheduler must be one of round-robin, .*, got 'fifo'"):
        scheduler_named("fifo")
    with pytest.raises(BadParameter, match=r"pattern must be empty .*, got 'DDS'"):
        Duplex(pattern="DDS")
