import numpy as np
import pytest

from channel.cell.scheduler import SCHEDULERS, Duplex, RoundRobin, averaged, scheduler_named
from channel.core.errors import BadParameter


@pytest.mark.parametrize("name", SCHEDULERS)
def test_only_users_that_can_send_get_a_group(name):
    rate = np.asarray([[0.0, 2.0, 0.0, 1.0], [0.0, 1.0, 0.0, 3.0]])
    for turn in range(5):
        assert set(scheduler_named(name).choose(rate, np.ones(4), turn).tolist()) <= {1, 3}


def test_round_robin_allocates_equal_numbers_of_groups():
    served = [RoundRobin().choose(np.ones((3, 5)), np.ones(5), 3 * slot) for slot in range(5)]
    assert np.bincount(np.concatenate(served)).tolist() == [3] * 5


def test_maximum_rate_uses_the_rate_and_proportional_fair_the_relative_rate():
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


def shared(full_power_groups, groups, sinr):
    """What the n-th group adds (N, U) in log(1 + SINR) where one power fills `full_power_groups`."""
    number = np.arange(groups + 1.0)[:, None]
    total = number * np.log1p(sinr * np.minimum(1.0, full_power_groups / np.maximum(number, 1.0)))
    return np.diff(total, axis=0) / total[1]


def test_groups_that_one_power_cannot_fill_go_to_others():
    rate, worth = np.ones((8, 4)), shared(1.0, 8, np.full(4, 10.0))
    for name in ("proportional-fair", "maximum-rate"):
        winner = SCHEDULERS[name].choose(rate, np.ones(4), 0, worth)
        assert np.bincount(winner).tolist() == [2, 2, 2, 2]
        assert SCHEDULERS[name].choose(rate, np.ones(4), 0).tolist() == [0] * 8


def test_users_with_a_low_mean_rate_get_more_groups_unless_those_add_nothing():
    rate, worth = np.ones((8, 2)), shared(2.0, 8, np.full(2, 10.0))
    winner = SCHEDULERS["proportional-fair"].choose(rate, np.asarray([1.0, 3.0]), 0, worth)
    # The marginal worth over the mean, by hand: the first user's beats a third until its sixth group.
    order = sorted([*worth[:, 0], *(worth[:, 1] / 3.0)], reverse=True)[:8]
    wanted = sum(worth[n, 0] in order for n in range(8))
    assert np.bincount(winner, minlength=2).tolist() == [wanted, 8 - wanted]
    assert wanted > 4


@pytest.mark.parametrize("name", SCHEDULERS)
def test_groups_without_value_to_any_user_stay_empty(name):
    worth = np.zeros((6, 2))
    worth[0] = worth[1] = 1.0
    rate = np.ones((6, 2))
    rate[:, 1] = 0.5
    winner = scheduler_named(name).choose(rate, np.ones(2), 1, worth)
    assert sorted(winner.tolist()) == [-1, -1, 0, 0, 1, 1]


@pytest.mark.parametrize("name", SCHEDULERS)
def test_with_power_for_all_groups_nothing_changes(name):
    rng = np.random.default_rng(0)
    rate, mean = rng.random((6, 4)), rng.random(4)
    choose, worth = scheduler_named(name).choose, np.ones((6, 4))
    assert np.array_equal(choose(rate, mean, 4), choose(rate, mean, 4, worth))
    worth[2:] = 0.0
    assert np.bincount(choose(rate, mean, 4, worth), minlength=4).max() <= 2


def test_groups_go_to_the_highest_value_one_by_one():
    rng = np.random.default_rng(1)
    for _ in range(50):
        value = rng.integers(0, 4, (6, 5)) * 1.0  # many ties, and groups that nobody can use
        worth = np.where(rng.random(5) < 0.5, 1.0, np.sort(rng.random((6, 5)), axis=0)[::-1])
        winner, count = [-1] * 6, [0] * 5
        for _ in range(6):
            now = [[value[f, u] * worth[count[u], u] * (winner[f] < 0) for u in range(5)] for f in range(6)]
            group, user = divmod(int(np.argmax(now)), 5)
            if now[group][user] == 0.0:
                break
            winner[group], count[user] = user, min(count[user] + 1, 5)
        assert SCHEDULERS["maximum-rate"].choose(value, np.ones(5), 0, worth).tolist() == winner
