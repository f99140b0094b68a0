import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.markov import TwoState
from channel.core.rng import stream
from channel.links.loss import Bernoulli, GilbertElliott, LossModel, RecordedLoss, TimedGilbertElliott

BURSTY = GilbertElliott(leave_good=0.01, leave_bad=0.2)
MODELS: dict[str, LossModel] = {
    "bernoulli": Bernoulli(loss_rate=0.1),
    "bursty": BURSTY,
    "noisy": GilbertElliott(leave_good=0.02, leave_bad=0.25, arrive_good=0.999, arrive_bad=0.3),
    "restless": GilbertElliott(leave_good=0.7, leave_bad=0.8),
    "recorded": RecordedLoss(arrived=np.array([True] * 7 + [False] * 3)),
}


def bursts(lost):
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]]).astype(np.int8)))
    return edges[1::2] - edges[::2]


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_loses_its_rate(name):
    arrived = MODELS[name].arrives(stream(0, name), 1_000_000)
    assert 1.0 - arrived.mean() == pytest.approx(MODELS[name].loss_rate, rel=0.05)


# Conformance row 9, with five times its packets: 5 % is then five standard deviations
def test_burst_lengths_follow_the_model():
    assert BURSTY.loss_rate == pytest.approx(0.047619, abs=1e-6)
    assert BURSTY.mean_burst == 5.0
    assert MODELS["noisy"].loss_rate == pytest.approx(0.05278, abs=1e-5)
    lost = ~BURSTY.arrives(stream(0, "gilbert"), 2_000_000)
    lengths = bursts(lost)
    assert lost.mean() == pytest.approx(0.04762, rel=0.05)
    assert lengths.mean() == pytest.approx(5.0, rel=0.05)
    assert (lengths == 1).mean() == pytest.approx(0.2, rel=0.05)


@pytest.mark.parametrize(
    ("leave_good", "leave_bad"), [(0.01, 0.2), (0.3, 0.3), (0.7, 0.8), (1.0, 0.5), (0.2, 0.8)]
)
def test_the_state_forgets_geometrically(leave_good, leave_bad):
    model = GilbertElliott(leave_good=leave_good, leave_bad=leave_bad)
    lost = ~model.arrives(stream(1, "gilbert"), 1_000_000)
    bad = model.bad_share
    for lag in (1, 2, 3):
        together = float((lost[:-lag] & lost[lag:]).mean())
        found = (together - bad**2) / (bad * (1.0 - bad))
        assert found == pytest.approx((1.0 - leave_good - leave_bad) ** lag, abs=0.02)


def test_two_states_that_always_change_alternate():
    lost = ~GilbertElliott(leave_good=1.0, leave_bad=1.0).arrives(stream(0), 100)
    assert (lost[1:] != lost[:-1]).all()


def test_a_state_that_is_never_left_is_where_it_ends():
    assert not GilbertElliott(leave_good=1.0, leave_bad=0.0).arrives(stream(0), 50).any()
    assert GilbertElliott(leave_good=0.0, leave_bad=1.0).arrives(stream(0), 50).all()
    assert GilbertElliott(leave_good=1.0, leave_bad=0.0).mean_burst == np.inf


def test_the_first_packet_is_in_the_steady_state():
    first = [bool(BURSTY.arrives(stream(0, "transfer", number), 3)[0]) for number in range(5000)]
    assert 1.0 - np.mean(first) == pytest.approx(0.0476, abs=0.01)


@given(name=st.sampled_from(sorted(MODELS)), packets=st.integers(0, 300), transfer=st.integers(0, 50))
def test_a_transfer_always_loses_the_same_packets(name, packets, transfer):
    once, again = (MODELS[name].arrives(stream(3, transfer), packets) for _ in range(2))
    assert once.dtype == np.bool_
    assert once.shape == (packets,)
    assert np.array_equal(once, again)


def test_a_recorded_trace_is_replayed_in_its_order_and_round_its_end():
    trace = np.array([True, False, False, True, True])
    heard = RecordedLoss(arrived=trace).arrives(stream(0), 12)
    turned = [np.roll(trace, -start) for start in range(5)]
    assert any(np.array_equal(heard, np.tile(one, 3)[:12]) for one in turned)


def test_timed_bursts_outlive_a_transfer():
    bad = TwoState(seed=0, name=("deep fade",), mean_on_s=2.0, mean_off_s=6.0)
    model = TimedGilbertElliott(bad=bad, arrive_good=0.99, arrive_bad=0.1)
    assert model.loss_rate == pytest.approx(0.75 * 0.01 + 0.25 * 0.9)
    times_s = np.arange(100_000) * 0.5
    lost = ~model.arrives_at(stream(0, "luck"), times_s)
    assert lost.mean() == pytest.approx(model.loss_rate, rel=0.05)
    one, next_one = lost[:-1:2], lost[1::2]
    assert next_one[one].mean() > 2 * next_one[~one].mean()


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: Bernoulli(loss_rate=1.5), r"loss_rate must lie in \[0, 1\], got 1.5"),
        (
            lambda: GilbertElliott(leave_good=-0.1, leave_bad=0.2),
            r"leave_good must lie in \[0, 1\], got -0.1",
        ),
        (lambda: GilbertElliott(leave_good=0.1, leave_bad=1.3), r"leave_bad must lie in \[0, 1\], got 1.3"),
        (lambda: GilbertElliott(leave_good=0.0, leave_bad=0.0), r"leave_good \+ leave_bad must be above 0"),
        (
            lambda: RecordedLoss(arrived=np.zeros(0, dtype=bool)),
            "arrived must be a vector of at least one packet",
        ),
        (
            lambda: Bernoulli(loss_rate=0.1).arrives(stream(0), -1),
            "packets must be a whole number of at least 0",
        ),
        (
            lambda: TimedGilbertElliott(
                bad=TwoState(seed=0, name=(), mean_on_s=1.0, mean_off_s=1.0), arrive_bad=2.0
            ),
            r"arrive_bad must lie in \[0, 1\], got 2.0",
        ),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
