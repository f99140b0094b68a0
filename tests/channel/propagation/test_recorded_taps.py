import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.propagation.fading_grid import SLOTS
from channel.propagation.recorded_taps import NodeTaps


def made(time_s=(0.0, 0.5, 1.0), nodes=3, taps=2, **changed):
    rng = np.random.default_rng(0)
    shape = (nodes, nodes, len(time_s), taps)
    gain = rng.normal(size=shape) + 1j * rng.normal(size=shape)
    gain[:, :, -1] = gain[:, :, -2]
    given = {"delay_s_NNTL": rng.uniform(0, 1e-6, shape), "gain_NNTL": gain, **changed}
    return NodeTaps(time_s_T=np.asarray(time_s), **given)


def test_a_replay_is_the_fourier_sum_of_the_taps_of_its_time():
    taps = made()
    frequency_hz = np.asarray([-1e6, 0.0, 2e6])
    replay = taps.replay("down", 2, slot_s=1e-3, frequency_hz_F=frequency_hz)
    block = np.concatenate([replay.block(number) for number in range(20)], axis=1)
    for slot, row in ((0, 0), (499, 0), (500, 1), (999, 1), (1000, 0), (1200, 0)):
        turn = np.exp(-2j * np.pi * taps.delay_s_NNTL[0, 2, row][:, None] * frequency_hz)
        wanted = (taps.gain_NNTL[0, 2, row][:, None] * turn).sum(axis=0) / np.sqrt(taps.power_NN[0, 2])
        assert block[1, slot] == pytest.approx(wanted, rel=1e-9)


def test_up_and_down_are_different_links_of_mean_power_1():
    taps = made()
    up, down = (taps.replay(way, 2, slot_s=1e-3, frequency_hz_F=np.zeros(1)) for way in ("up", "down"))
    assert not np.allclose(up.gain_UTL, down.gain_UTL)
    for replay in (up, down):
        power_U = (np.abs(replay.gain_UTL[:, :-1]) ** 2).sum(axis=-1).mean(axis=-1)
        assert power_U == pytest.approx(1.0)


def test_a_block_is_the_same_whenever_it_is_asked_for():
    replay = made().replay("up", 2, slot_s=0.7e-3, frequency_hz_F=np.asarray([0.0, 1e6]))
    alone = replay.block(7)
    assert np.array_equal([replay.block(number) for number in (9, 7, 8)][1], alone)
    assert alone.shape == (2, SLOTS, 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"time_s": (0.0, 0.5, 0.4)}, "times must increase, got 0.4 after 0.5 in row 2"),
        ({"time_s": (0.1, 0.5, 0.7)}, "times must start at 0, got 0.1"),
        ({"delay_s_NNTL": np.full((3, 3, 3, 2), -1e-9)}, "delays must be at least 0, got -1e-09"),
        ({"gain_NNTL": np.full((3, 3, 3, 2), np.nan + 0j)}, "gains must be above -1, got nan"),
        ({"gain_NNTL": np.zeros((3, 2, 3, 2), complex)}, r"gains must be \(nodes, nodes, times, taps\)"),
        ({"delay_s_NNTL": np.zeros((3, 3, 3, 1))}, "delays must have the gains' shape"),
    ],
)
def test_bad_taps_are_refused(changed, message):
    with pytest.raises(BadParameter, match=message):
        made(**changed)


def test_more_users_than_nodes_and_a_silent_link_are_refused():
    with pytest.raises(BadParameter, match="users must be at most 2, all nodes but one, got 3"):
        made().users_power("up", 3)
    gain = made().gain_NNTL
    gain[0, 1] = 0.0
    with pytest.raises(BadParameter, match="got 0 for user 0, direction down"):
        made(gain_NNTL=gain).users_power("down", 2)
