import random
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.link import Link, Transfer
from channel.links import recordings as traces
from channel.links.fixed import Direction, FixedLink
from channel.links.loss import Bernoulli, GilbertElliott
from channel.links.recordings import LinkTrace
from channel.links.trace import OpportunityRecording, RateRecording, TraceLink, read_recording

STEADY = OpportunityRecording(time_K=np.arange(1.0, 101.0) * 1e-3)


def table(time_s, rate_bps, delay_s=0.0, loss_rate=0.0):
    rows = len(time_s)
    columns = [
        np.broadcast_to(np.asarray(one, dtype=float), (rows,)) for one in (rate_bps, delay_s, loss_rate)
    ]
    return LinkTrace(
        time_s=np.asarray(time_s, dtype=float), rate_bps=columns[0], delay_s=columns[1], loss_rate=columns[2]
    )


def link_of(recording, **settings):
    return TraceLink(seed=1, up=recording, down=recording, **settings)


def transfer(payload_bytes, start_s=0.0, **who):
    named = {"client": 0, "direction": "up", "sequence": 0, **who}
    return Transfer(payload_bytes=payload_bytes, start_s=start_s, **named)


def plain(delivery):
    return (delivery.arrived.tolist(), *astuple(delivery)[1:])


@settings(deadline=None)
@given(payload_bytes=st.integers(0, 10**7), start_s=st.floats(0, 100))
def test_a_table_of_one_row_is_a_fixed_link(payload_bytes, start_s):
    way = Direction(rate_bps=3e6, delay_s=0.02)
    asked = transfer(payload_bytes, start_s)
    here = link_of(RateRecording(trace=table([5.0], 3e6, 0.02))).transfer(asked)
    there = FixedLink(seed=0, up=way).transfer(asked)
    assert here.finish_s == pytest.approx(there.finish_s, rel=1e-12)
    assert here.airtime_s == pytest.approx(there.airtime_s, rel=1e-9, abs=1e-12)


def test_bits_flow_at_the_rate_of_each_row_and_wait_while_it_is_0():
    recording = RateRecording(trace=table([10.0, 11.0, 12.0], [8e6, 0.0, 4e6], 0.5))
    assert link_of(recording).transfer(transfer(500_000)).finish_s == pytest.approx(0.5 + 0.5)
    assert link_of(recording).transfer(transfer(1_250_000)).finish_s == pytest.approx(2.5 + 0.5)
    assert link_of(recording).transfer(transfer(500_000, 1.25)).finish_s == pytest.approx(3.0 + 0.5)


def test_delay_and_losses_are_those_of_the_row_in_which_a_packet_left():
    recording = RateRecording(trace=table([0.0, 1.0], 12e6, [0.0, 0.25], [0.0, 1.0]))
    done = link_of(recording, max_tries=1).transfer(transfer(2 * 1500 * 1000))
    assert done.arrived.tolist() == [True] * 999 + [False] * 1001
    assert done.finish_s == pytest.approx(2.25)


def test_the_first_packet_may_arrive_last():
    recording = RateRecording(trace=table([0.0, 0.01], 12e6, [5.0, 0.0], [0.5, 0.0]))
    done = link_of(recording, retry_s=0.02).transfer(transfer(1500 * 8))
    assert done.retransmissions > 0
    assert done.finish_s == pytest.approx(5.008)


def test_the_loss_rate_is_that_of_the_table():
    recording = RateRecording(trace=table([0.0], 1e9, 0.0, 0.2))
    done = link_of(recording, mtu_bytes=100, max_tries=1).transfer(transfer(100 * 200_000))
    assert done.loss_rate == pytest.approx(0.2, rel=0.02)


def test_each_mahimahi_opportunity_delivers_1500_bytes_and_the_recording_repeats():
    link = link_of(STEADY)
    assert link.transfer(transfer(1500)).finish_s == pytest.approx(1e-3)
    assert link.transfer(transfer(1501)).finish_s == pytest.approx(2e-3)
    assert link.transfer(transfer(1500 * 250)).finish_s == pytest.approx(0.25)
    assert link.transfer(transfer(1500, 0.2005)).finish_s == pytest.approx(0.201)


@pytest.mark.parametrize("period", [7, 100])
def test_no_chance_serves_two_messages(period):
    link = link_of(OpportunityRecording(time_K=np.arange(1.0, 1.0 + period) * 1e-3))
    now_s = 0.0
    for sequence in range(1000):
        now_s = link.transfer(transfer(10, now_s, sequence=sequence)).finish_s
    assert now_s == pytest.approx(1.0)


def test_a_written_mahimahi_trace_replays_at_the_rate_it_was_made_of(tmp_path):
    traces.write_mahimahi(tmp_path / "t", np.full(100, 120_000.0), 0.01)
    recording = OpportunityRecording(time_K=traces.read_mahimahi(tmp_path / "t"))
    assert link_of(recording).transfer(transfer(15_000_000)).finish_s == pytest.approx(10.0)


def test_the_suffix_of_a_file_determines_its_format(tmp_path):
    for write, name in ((traces.write_csv, "t.csv"), (traces.write_npz, "t.npz")):
        write(tmp_path / name, table([0.0], 12e3))
        assert link_of(read_recording(tmp_path / name)).transfer(transfer(1500)).finish_s == pytest.approx(
            1.0
        )
    (tmp_path / "t.down").write_text("500\n1000\n")
    assert link_of(read_recording(tmp_path / "t.down")).transfer(transfer(3000)).finish_s == pytest.approx(
        1.0
    )
    (tmp_path / "t.npz").write_text("time_s")
    with pytest.raises(BadParameter, match=r"t.npz must be a .npz file"):
        read_recording(tmp_path / "t.npz")


def test_lost_packets_are_retransmitted_after_the_wait():
    recording = OpportunityRecording(time_K=STEADY.time_K, loss=GilbertElliott(leave_good=0.1, leave_bad=0.3))
    link: Link = link_of(recording, retry_s=1.0)
    done = link.transfer(transfer(1500 * 400))
    assert done.is_complete
    assert done.retransmissions > 50
    assert done.airtime_s == pytest.approx((400 + done.retransmissions) * 1e-3, abs=0.01)
    waits = round(done.finish_s - done.airtime_s)
    assert waits >= 2
    assert done.finish_s == pytest.approx(done.airtime_s + waits, abs=1e-6)


def test_the_order_of_asking_changes_nothing():
    recording = RateRecording(trace=table([0.0, 0.4], [1e6, 2e6], 0.01, 0.3))
    asked = [transfer(9000, client=client, sequence=number) for client in range(5) for number in range(5)]
    link = link_of(recording)
    answers = {one: plain(link.transfer(one)) for one in asked}
    random.Random(0).shuffle(asked)
    assert {one: plain(link_of(recording).transfer(one)) for one in asked} == answers


@pytest.mark.parametrize("loss", [Bernoulli(loss_rate=0.2), GilbertElliott(leave_good=0.02, leave_bad=0.25)])
def test_a_fixed_link_has_the_losses_of_its_model(loss):
    link = FixedLink(seed=0, up=Direction(loss=loss, rate_bps=1e9), mtu_bytes=100, max_tries=1)
    done = link.transfer(transfer(100 * 200_000))
    assert done.loss_rate == pytest.approx(loss.loss_rate, rel=0.06)
    assert done.airtime_s == pytest.approx(200_000 * 800 / 1e9)


def test_a_fixed_link_with_a_model_retransmits_until_complete():
    way = Direction(loss=GilbertElliott(leave_good=0.1, leave_bad=0.2), rate_bps=1e6, delay_s=0.25)
    done = FixedLink(seed=0, up=way, retry_s=0.0).transfer(transfer(1500 * 300))
    assert done.is_complete
    assert done.finish_s == pytest.approx(0.25 + (300 + done.retransmissions) * 12_000 / 1e6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RateRecording(trace=table([0, 1], [1e6, 0.0])), "last rate_bps .* must be above 0, got 0"),
        (
            lambda: OpportunityRecording(time_K=np.asarray([2e-3, 1e-3])),
            "time_K must not decrease, got 0.001 after",
        ),
        (lambda: OpportunityRecording(time_K=np.zeros(3)), "the last of time_K must be above 0"),
        (lambda: OpportunityRecording(time_K=np.zeros(0)), "time_K must be a vector of at least 1 time"),
        (lambda: link_of(STEADY, mtu_bytes=0), "mtu_bytes must be a whole number of at least 1, got 0"),
        (lambda: link_of(STEADY, retry_s=-1.0), "retry_s must be at least 0, got -1"),
        (
            lambda: link_of(RateRecording(trace=table([0.0], 1e6, 0.0, 1.0))),
            "max_tries must be above 0 if a recording ends with a loss rate of 1",
        ),
        (
            lambda: Direction(loss=Bernoulli(loss_rate=0.1), loss_rate=0.1),
            "loss_rate must be 0 where loss is a model",
        ),
        (
            lambda: Direction(loss=Bernoulli(loss_rate=1.0)),
            "loss must let packets through, got a loss rate of 1",
        ),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(BadParameter, match=message):
        make()
