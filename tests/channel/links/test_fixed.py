import random
import time
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.link import Link, Transfer, packet_sizes
from channel.links.fixed import Direction, FixedLink

LOSSY = Direction(rate_bps=2e7, delay_s=0.005, loss_rate=0.3)


def transfer(payload_bytes, *, client=0, direction="up", sequence=0, start_s=0.0):
    return Transfer(
        client=client, direction=direction, sequence=sequence, payload_bytes=payload_bytes, start_s=start_s
    )


def plain(delivery):
    return (delivery.arrived.tolist(), *astuple(delivery)[1:])


# Conformance row 22: B bytes at rate R with delay D take 8 B / R + D
@given(
    payload_bytes=st.integers(0, 10**9),
    rate_bps=st.floats(1e3, 1e10),
    delay_s=st.floats(0, 10),
    direction=st.sampled_from(["up", "down"]),
)
def test_without_loss_a_transfer_takes_its_bits_over_the_rate_and_one_delay(
    payload_bytes, rate_bps, delay_s, direction
):
    way = Direction(rate_bps=rate_bps, delay_s=delay_s)
    link = FixedLink(seed=0, up=way, down=way)
    done = link.transfer(transfer(payload_bytes, direction=direction, start_s=7.0))
    assert done.finish_s - 7.0 == pytest.approx(8 * payload_bytes / rate_bps + delay_s, rel=1e-9, abs=1e-9)
    assert done.airtime_s == pytest.approx(8 * payload_bytes / rate_bps, rel=1e-12)
    assert done.is_complete
    assert done.retransmissions == 0


# Conformance row 18: p = 0.3 and M = 4 leave 0.0081 and need 1.417 tries
@pytest.mark.parametrize(("loss_rate", "max_tries"), [(0.3, 4), (0.1, 2), (0.5, 7), (0.9, 3), (0.3, 1)])
def test_residual_loss_and_mean_tries_follow_the_closed_forms(loss_rate, max_tries):
    packets = 1_000_000
    way = Direction(rate_bps=1e9, loss_rate=loss_rate)
    done = FixedLink(seed=1, up=way, mtu_bytes=100, max_tries=max_tries).transfer(transfer(100 * packets))
    residual = loss_rate**max_tries
    assert done.loss_rate == pytest.approx(residual, rel=0.05)
    tries = 1.0 + done.retransmissions / packets
    assert tries == pytest.approx((1 - residual) / (1 - loss_rate), rel=0.005)
    assert done.airtime_s == pytest.approx(tries * packets * 100 * 8 / 1e9, rel=1e-12)


@pytest.mark.parametrize("loss_rate", [0.01, 0.3, 0.9, 0.999])
def test_tried_until_it_arrives_a_packet_needs_one_over_the_success_rate_tries(loss_rate):
    packets = 1_000_000
    done = FixedLink(seed=2, up=Direction(loss_rate=loss_rate), mtu_bytes=100).transfer(
        transfer(100 * packets)
    )
    assert done.is_complete
    assert 1.0 + done.retransmissions / packets == pytest.approx(1 / (1 - loss_rate), rel=0.005)


def test_losses_of_neighbouring_packets_are_independent():
    link = FixedLink(seed=3, up=Direction(loss_rate=0.3), mtu_bytes=1, max_tries=1)
    lost = ~link.transfer(transfer(10**6)).arrived
    assert float((lost[1:] & lost[:-1]).mean()) == pytest.approx(0.09, rel=0.02)


def test_every_round_of_retries_waits_for_its_answer():
    link = FixedLink(seed=4, up=LOSSY, mtu_bytes=1000, retry_s=0.5)
    single = [link.transfer(transfer(1000, sequence=sequence)) for sequence in range(200)]
    assert {done.retransmissions for done in single} >= {0, 1, 2}
    for done in single:
        tries = 1 + done.retransmissions
        assert done.airtime_s == pytest.approx(tries * 8000 / 2e7, rel=1e-12)
        assert done.finish_s == pytest.approx(done.airtime_s + (tries - 1) * 0.5 + 0.005, rel=1e-12)


def test_packets_of_one_round_share_one_wait():
    patient = FixedLink(seed=5, up=LOSSY, mtu_bytes=1000, retry_s=1.0)
    eager = FixedLink(seed=5, up=LOSSY, mtu_bytes=1000, retry_s=0.0)
    waited_s = patient.transfer(transfer(50_000)).finish_s - eager.transfer(transfer(50_000)).finish_s
    assert waited_s == pytest.approx(round(waited_s), abs=1e-9)
    assert 1 <= round(waited_s) < patient.transfer(transfer(50_000)).retransmissions


def test_the_wait_for_answers_uses_no_airtime_and_no_energy():
    way = Direction(rate_bps=1e6, loss_rate=0.5, power_w=0.25)
    slow = FixedLink(seed=6, up=way, retry_s=1.0).transfer(transfer(90_000))
    fast = FixedLink(seed=6, up=way, retry_s=0.0).transfer(transfer(90_000))
    assert slow.finish_s > fast.finish_s
    assert slow.airtime_s == fast.airtime_s
    assert slow.energy_j == fast.energy_j == pytest.approx(0.25 * fast.airtime_s)


@given(payload_bytes=st.integers(0, 10**6), mtu_bytes=st.integers(1, 9000))
def test_packets_are_full_but_for_the_last(payload_bytes, mtu_bytes):
    sizes = packet_sizes(payload_bytes, mtu_bytes)
    assert sizes.sum() == payload_bytes
    assert sizes.size == -(-payload_bytes // mtu_bytes)
    assert (sizes[:-1] == mtu_bytes).all()
    assert ((sizes > 0) & (sizes <= mtu_bytes)).all()


def test_the_order_of_asking_changes_nothing():
    asked = [
        transfer(123_456, client=client, direction=direction, sequence=sequence)
        for client in range(3)
        for direction in ("up", "down")
        for sequence in range(5)
    ]
    link = FixedLink(seed=7, up=LOSSY, down=LOSSY, max_tries=2)
    answers = {one: plain(link.transfer(one)) for one in asked}
    random.Random(0).shuffle(asked)
    afresh = FixedLink(seed=7, up=LOSSY, down=LOSSY, max_tries=2)
    assert {one: plain(afresh.transfer(one)) for one in asked} == answers
    assert len({tuple(answer[0]) for answer in answers.values()}) == len(asked)


def test_another_seed_loses_other_packets():
    one, other = (FixedLink(seed=seed, up=LOSSY, max_tries=1).transfer(transfer(10**6)) for seed in (0, 1))
    assert not np.array_equal(one.arrived, other.arrived)


def test_the_ideal_link_takes_no_time_and_loses_nothing():
    done = FixedLink(seed=0).transfer(transfer(10**6, start_s=3.0))
    assert (done.finish_s, done.airtime_s, done.energy_j, done.retransmissions) == (3.0, 0.0, 0.0, 0)
    assert done.is_complete


def test_nothing_to_send_still_takes_the_delay():
    done = FixedLink(seed=0, up=LOSSY).transfer(transfer(0))
    assert (done.packets, done.finish_s, done.is_complete) == (0, 0.005, True)


def test_a_hundred_megabytes_are_decided_in_milliseconds():
    link: Link = FixedLink(seed=9, up=LOSSY)
    start_s = time.perf_counter()
    link.transfer(transfer(100_000_000))
    assert time.perf_counter() - start_s < 0.1


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        (Direction, {"rate_bps": -1.0}, "rate_bps must be at least 0, got -1.0"),
        (Direction, {"rate_bps": float("inf")}, "rate_bps must be a finite number, got inf"),
        (Direction, {"delay_s": float("nan")}, "delay_s must be at least 0, got nan"),
        (Direction, {"loss_rate": 1.0}, r"loss_rate must lie in \[0, 1\), got 1.0"),
        (Direction, {"loss_rate": -0.1}, r"loss_rate must lie in \[0, 1\), got -0.1"),
        (Direction, {"loss_rate": float("nan")}, r"loss_rate must lie in \[0, 1\), got nan"),
        (Direction, {"power_w": -0.2}, "power_w must be at least 0, got -0.2"),
        (FixedLink, {"mtu_bytes": 0}, "mtu_bytes must be at least 1, got 0"),
        (FixedLink, {"max_tries": -1}, "max_tries must be at least 0, got -1"),
        (FixedLink, {"retry_s": -1.0}, "retry_s must be at least 0, got -1.0"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(kind, setting, message):
    seed = {"seed": 0} if kind is FixedLink else {}
    with pytest.raises(BadParameter, match=message):
        kind(**seed, **setting)
