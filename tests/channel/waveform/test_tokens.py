"""Messages of tokens over a link in memory that loses packets and single rows."""

from collections import deque
from types import SimpleNamespace

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.fidelity.tokens import measured_tokens
from channel.waveform.header import Header
from channel.waveform.segments import Place, pack_segments
from channel.waveform.tokens import TOKENS, TokenLink

RELIABLE = bytes(range(256)) * 3


def end(source, **settings):
    chosen = {"segment_bytes": 100, "packet_bytes": 40, "deadline_s": 1e3, **settings}
    return TokenLink(source=source, target=1 - source, timeout_s=6.0, session=1 + source, **chosen)


def heard(header, payload, whole_U=None):
    """The packet as a receiver hands it out, with these rows whole."""
    if isinstance(payload, bytes):
        return SimpleNamespace(header=header, payload=payload, units_UN=None, is_whole_U=None)
    whole_U = np.ones(len(payload), dtype=bool) if whole_U is None else whole_U
    return SimpleNamespace(
        header=header, payload=None, units_UN=payload * whole_U[:, None], is_whole_U=whole_U
    )


def rows(count, width=16, seed=0):
    return stream(seed, "rows").integers(1, 256, (count, width), dtype=np.uint8)


def run(ends, loses=lambda header: False, loses_row=lambda: False, ticks=400, tick_s=1.0):
    """The messages that each end receives; a packet arrives a tick after it was sent, or never."""
    found, flying = [[], []], [deque(), deque()]
    for tick in range(ticks):
        arriving = [flight.popleft() if flight else None for flight in flying]
        for node, packet in enumerate(arriving):
            if packet is not None:
                found[node] += ends[node].receive(packet)
        for node, one in enumerate(ends):
            packet = one.next(tick * tick_s)
            if packet is not None and not loses(packet[0]):
                header, payload = packet
                is_bytes = isinstance(payload, bytes)
                whole_U = None if is_bytes else np.array([not loses_row() for _ in payload])
                flying[1 - node].append(heard(header, payload, whole_U))
        if all(one.is_idle for one in ends) and not any(flying):
            break
    return found


def test_messages_arrive_in_order_both_ways_on_a_link_that_loses_nothing():
    ends = end(0), end(1)
    for number in range(3):
        ends[0].offer(RELIABLE + bytes([number]), rows(11, seed=number))
        ends[1].offer(bytes([number]), rows(0))
    there, back = run(ends)[::-1]
    assert [one.reliable for one in there] == [RELIABLE + bytes([number]) for number in range(3)]
    assert all(one.arrived_U.all() for one in there)
    assert np.array_equal(there[2].row_UN, rows(11, seed=2))
    assert [one.reliable for one in back] == [bytes([number]) for number in range(3)]
    assert ends[0].counters.rows_sent == ends[1].counters.rows == 33
    assert ends[0].counters.row_packets == 18  # two rows of 16 bytes in 40


def test_lost_rows_are_zeros_and_masked_and_never_sent_again():
    ends, rng = (end(0), end(1)), stream(1, "losses")
    ends[0].offer(RELIABLE, sent := rows(50))
    (message,) = run(ends, lambda header: rng.random() < 0.2, lambda: rng.random() < 0.2)[1]
    assert message.reliable == RELIABLE
    assert 0 < message.arrived_U.sum() < 50
    assert np.array_equal(message.row_UN, sent * message.arrived_U[:, None])
    assert ends[0].counters.row_packets == 25
    assert ends[1].counters.rows_lost == 50 - message.arrived_U.sum()


def test_rows_are_not_sent_after_their_deadline():
    ends = end(0, deadline_s=3.0), end(1)
    ends[0].offer(RELIABLE, rows(50))
    (message,) = run(ends)[1]
    assert message.arrived_U.tolist() == [True] * 6 + [False] * 44
    assert ends[0].counters.rows_expired == 44


def test_a_message_without_the_far_side_is_given_up_and_the_next_one_arrives():
    ends, is_dead = [end(0), end(1)], True
    ends[0].offer(RELIABLE, rows(3))
    assert run(ends, lambda header: is_dead) == [[], []]
    assert ends[0].is_idle
    assert ends[0].arq.counters.given_up > 0
    is_dead = False
    ends[0].offer(b"next", rows(2, seed=1))
    (message,) = run(ends, lambda header: is_dead)[1]
    assert (message.reliable, message.arrived_U.tolist()) == (b"next", [True, True])


def test_a_message_of_which_a_segment_is_missing_is_lost_and_counted():
    segments = list(pack_segments(Place(session=1, message=0, units=0, unit_bytes=0), RELIABLE, 100))
    after = list(pack_segments(Place(session=1, message=1, units=0, unit_bytes=0), b"after", 100))
    link = end(1)
    for segment in segments[:3] + segments[4:]:
        assert link._segments.put(segment) is None
    assert link._segments.put(after[0])[1] == b"after"
    assert link.counters.messages_lost == 1


@pytest.mark.parametrize(
    ("segment", "counted"),
    [
        (b"\x07" + bytes(30), "other_version"),
        (b"", "other_version"),
        (b"\x01" + bytes(5), "malformed"),
        (
            next(pack_segments(Place(session=1, message=0, units=0, unit_bytes=0), b"abc", 99)) + b"d",
            "malformed",
        ),
        (next(pack_segments(Place(session=1, message=0, units=1 << 31, unit_bytes=9), b"", 99)), "malformed"),
    ],
)
def test_segments_of_another_version_or_length_are_dropped_and_counted(segment, counted):
    link = end(1)
    assert link._segments.put(segment) is None
    assert getattr(link.counters, counted) == 1


def test_rows_that_do_not_fit_their_message_are_dropped_and_counted():
    ends = end(0), end(1)
    header = Header(kind=TOKENS, source=0, target=1, flags=1, sequence=0, bitmap=3)
    assert ends[1].receive(heard(header, rows(2))) == []  # the message has 4 rows
    assert ends[1].receive(heard(header, rows(1, width=9))) == []
    assert ends[1].receive(heard(header, b"no rows")) == []
    ends[0].offer(RELIABLE, rows(4))
    (message,) = run(ends)[1]
    assert message.arrived_U.all()
    assert ends[1].counters.malformed == 3


def test_rows_of_messages_that_never_come_are_not_kept_for_ever():
    link = end(1)
    for number in range(20):
        link.receive(heard(Header(kind=TOKENS, sequence=number), rows(2)))
    assert len(link._heard) == 4


@pytest.mark.parametrize(
    "bad", [np.zeros(3, np.uint8), np.zeros((3, 3)), *(np.zeros((1, n), np.uint8) for n in (0, 20_000))]
)
def test_other_rows_are_refused(bad):
    with pytest.raises(BadParameter, match="row"):
        end(0).offer(b"", bad)


def test_other_settings_are_refused():
    with pytest.raises(BadParameter, match="packet_bytes must lie in"):
        end(0, packet_bytes=0)
    with pytest.raises(BadParameter, match="deadline_s"):
        end(0, deadline_s=0.0)
    with pytest.raises(BadParameter, match="segment_bytes"):
        end(0, segment_bytes=10).offer(b"", rows(0))


@pytest.mark.slow
def test_where_a_tenth_of_the_tokens_is_lost_whole_packets_would_lose_five_times_as_many():
    point = measured_tokens(16, 8.75, packets=40)
    assert 0.05 <= point.token_loss <= 0.15
    assert point.ratio >= 5.0
