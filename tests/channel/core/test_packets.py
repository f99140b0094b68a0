"""How payloads are cut, and which rows have come when packets are lost."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.cell.engine import engine_of
from channel.core.errors import BadParameter
from channel.core.link import Transfer, packets_of, units_arrived
from channel.links.fixed import Direction, FixedLink
from channel.links.loss import GilbertElliott
from channel.links.trace import OpportunityRecording, TraceLink
from channel.scenario.load import parse


def transfer(units, unit_bytes, reliable_bytes=0, recovery="none", sequence=0):
    return Transfer(
        client=0,
        direction="up",
        sequence=sequence,
        payload_bytes=reliable_bytes + units * unit_bytes,
        start_s=0.0,
        recovery=recovery,
        reliable_bytes=reliable_bytes,
        unit_bytes=unit_bytes,
    )


@given(
    units=st.integers(0, 40),
    unit_bytes=st.integers(1, 300),
    reliable_bytes=st.integers(0, 500),
    mtu_bytes=st.integers(1, 200),
    recovery=st.sampled_from(["none", "acknowledged"]),
    chance=st.integers(0, 2**32 - 1),
)
def test_a_row_has_come_where_every_packet_with_some_of_it_has(
    units, unit_bytes, reliable_bytes, mtu_bytes, recovery, chance
):
    asked = transfer(units, unit_bytes, reliable_bytes, recovery)
    packets = packets_of(asked, mtu_bytes)
    assert packets.sizes_bytes.sum() == asked.payload_bytes
    assert packets.sizes_bytes.max(initial=0) <= mtu_bytes
    arrived = np.random.default_rng(chance).random(packets.sizes_bytes.size) < 0.7
    byte_came = np.repeat(arrived, packets.sizes_bytes)[reliable_bytes:]
    expected = byte_came.reshape(units, unit_bytes).all(axis=1)
    np.testing.assert_array_equal(units_arrived(arrived, asked, mtu_bytes), expected)


def test_a_packet_holds_as_many_whole_rows_as_fit():
    packets = packets_of(transfer(7, 400, reliable_bytes=1000), 1500)
    assert packets.sizes_bytes.tolist() == [1000, 1200, 1200, 400]
    assert packets.is_reliable.tolist() == [True, False, False, False]


def test_a_row_larger_than_a_packet_has_packets_to_itself():
    packets = packets_of(transfer(2, 3100, reliable_bytes=1501), 1500)
    assert packets.sizes_bytes.tolist() == [1500, 1, 1500, 1500, 100, 1500, 1500, 100]


BURSTS = GilbertElliott(leave_good=0.1, leave_bad=0.3)
LINKS = {
    "fixed": FixedLink(seed=1, up=Direction(loss_rate=0.3, rate_bps=1e6), mtu_bytes=100),
    "bursts": FixedLink(seed=1, up=Direction(loss=BURSTS, rate_bps=1e6), mtu_bytes=100),
    "trace": TraceLink(
        seed=1,
        up=OpportunityRecording(time_K=np.arange(1.0, 101.0) * 1e-3, loss=BURSTS),
        down=OpportunityRecording(time_K=np.asarray([1e-3])),
        mtu_bytes=100,
    ),
}


@pytest.mark.parametrize("name", LINKS)
def test_only_the_reliable_part_is_retransmitted(name):
    link, again = LINKS[name], 0
    lost = []
    for sequence in range(200):
        asked = transfer(20, 100, reliable_bytes=500, sequence=sequence)
        delivery = link.transfer(asked)
        assert delivery.arrived[:5].all()
        lost.append(1.0 - delivery.arrived[5:].mean())
        again += delivery.retransmissions
    loss_rate = 0.3 if name == "fixed" else BURSTS.loss_rate
    assert np.mean(lost) == pytest.approx(loss_rate, abs=0.05)
    # A packet that must arrive takes 1 / (1 - p) tries in the mean.
    assert again / (200 * 5) == pytest.approx(loss_rate / (1.0 - loss_rate), rel=0.35)


def test_without_recovery_a_cell_loses_rows_but_no_reliable_bytes():
    place = '[place]\nenvironment = "constant"\nloss_db = 120.0\nusers = 1\n'
    far = place + '[link]\nharq = "none"\nmax_tries = 1\n'
    engine = engine_of(parse(far), mtu_bytes=300)
    lost = retransmissions = 0
    for sequence in range(30):
        asked = Transfer(
            client=0,
            direction="up",
            sequence=sequence,
            payload_bytes=3000 + 20 * 100,
            start_s=engine.now_s,
            recovery="none",
            reliable_bytes=3000,
            unit_bytes=100,
        )
        engine.submit(asked)
        ((_, delivery),) = engine.advance(engine.now_s + 60.0, to_first=True)
        assert delivery.arrived[:10].all()
        lost += int((~units_arrived(delivery.arrived, asked, 300)).sum())
        retransmissions += delivery.retransmissions
    assert 0 < lost < 30 * 20
    assert retransmissions > 0


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"recovery": "perhaps"}, "recovery must be one of acknowledged, none, got 'perhaps'"),
        ({"reliable_bytes": 200}, "must be whole units"),
        ({"unit_bytes": 0}, "must be whole units"),
        ({"reliable_bytes": 10, "unit_bytes": 40}, "must be whole units of at least 1 byte, got 100 - 10"),
    ],
)
def test_a_transfer_that_cannot_be_is_refused(settings, complaint):
    with pytest.raises(BadParameter, match=complaint):
        Transfer(client=0, direction="up", sequence=0, payload_bytes=100, start_s=0.0, **settings)
