"""ARQ over a link in memory that delays and loses packets."""

from collections import Counter, deque

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.waveform.arq import MOST_TRIES, QUEUE, WINDOW, ArqLink, PacketKind

TIMEOUT_S = 6.0


def end(source, session=5, timeout_s=TIMEOUT_S):
    return ArqLink(source=source, target=1 - source, timeout_s=timeout_s, session=session)


class Line:
    """Two ends; each sends at most one packet per unit of time, which arrives one unit later, or never."""

    def __init__(self, loses, ends=None):
        self.ends = ends or [end(0), end(1)]
        self.heard = [[], []]
        self._loses, self._now_s = loses, 0.0
        self._flying = [deque(), deque()]

    def run(self, ticks):
        for _ in range(ticks):
            arriving = [flight.popleft() if flight else None for flight in self._flying]
            for node, packet in enumerate(arriving):
                if packet is not None:
                    self.heard[node] += self.ends[node].receive(*packet)
            for node, one in enumerate(self.ends):
                packet = one.next(self._now_s)
                if packet is not None and not self._loses(*packet):
                    self._flying[1 - node].append(packet)
            self._now_s += 1.0

    def feed(self, node, payloads, most_ticks=10_000):
        """Offers packets as the queue has room, until all have been acknowledged or given up."""
        waiting = deque(payloads)
        for _ in range(most_ticks):
            while waiting and self.ends[node].offer(waiting[0]):
                waiting.popleft()
            self.run(1)
            if not waiting and self.ends[node].is_idle:
                return
        raise AssertionError("the link did not become idle")


def numbered(count):
    return [number.to_bytes(4, "big") for number in range(count)]


def lossless(header, payload):
    return False


def random_loss(share, seed=0):
    rng = stream(seed, "losses")
    return lambda header, payload: rng.random() < share


def test_a_perfect_link_sends_each_packet_once():
    line = Line(lossless)
    line.feed(0, numbered(200))
    assert line.heard[1] == numbered(200)
    first, second = line.ends[0].counters, line.ends[1].counters
    assert (first.sent, first.retransmissions, first.given_up) == (200, 0, 0)
    assert (second.delivered, second.duplicates, second.restarts) == (200, 0, 0)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), share=st.floats(0.0, 0.5), count=st.integers(1, 120))
def test_packets_arrive_in_order_and_at_most_once_both_ways(seed, share, count):
    line = Line(random_loss(share, seed))
    back = [b"back" + payload for payload in numbered(count)]
    for payload in back[:QUEUE]:
        assert line.ends[1].offer(payload)
    line.feed(0, numbered(count))
    line.run(2000)
    for heard, sent, node in ((line.heard[1], numbered(count), 0), (line.heard[0], back[:QUEUE], 1)):
        assert heard == sorted(set(heard))
        missing = len(sent) - len(heard)
        assert set(heard) <= set(sent)
        assert missing <= line.ends[node].counters.given_up == line.ends[1 - node].counters.lost


@pytest.mark.slow
def test_the_residual_loss_is_at_most_1e_4_where_three_in_ten_packets_are_lost():
    line = Line(random_loss(0.3))
    line.feed(0, numbered(20_000), most_ticks=100_000)
    assert len(line.heard[1]) >= 20_000 * (1.0 - 1e-4)
    assert line.heard[1] == sorted(set(line.heard[1]))
    assert line.ends[0].counters.sent == 20_000


def test_a_missing_packet_is_sent_again_at_once_and_only_that_one():
    sent = []

    def lose_the_third_once(header, payload):
        sent.append(header.sequence) if header.kind == PacketKind.DATA else None
        return header.kind == PacketKind.DATA and header.sequence == 2 and sent.count(2) == 1

    line = Line(lose_the_third_once)
    line.feed(0, numbered(12))
    assert line.heard[1] == numbered(12)
    assert {sequence: count for sequence, count in Counter(sent).items() if count > 1} == {2: 2}
    assert sent[:6] == [0, 1, 2, 3, 4, 2]


def test_the_last_packet_is_sent_again_after_the_time_out():
    link, far = end(0), end(1)
    link.offer(b"x")
    assert link.next(0.0)[0].kind == PacketKind.ACK  # it does not know the far side yet
    link.receive(*answer_to(far, link))
    assert link.next(1.0)[1] == b"x"
    assert link.next(TIMEOUT_S) is None
    assert link.next(1.0 + TIMEOUT_S)[1] == b"x"
    assert link.counters.retransmissions == 1


def answer_to(far, link):
    """What `far` says to a packet without content of `link`."""
    far.receive(link._header(PacketKind.ACK, 0), b"")
    return far.next(0.0)


def test_a_packet_is_given_up_after_the_last_attempt_and_those_behind_it_arrive():
    def lose_the_first(header, payload):
        return payload == b"lost"

    line = Line(lose_the_first)
    line.feed(0, [b"lost", b"next"])
    assert line.heard[1] == [b"next"]
    counters = line.ends[0].counters
    assert (counters.given_up, counters.retransmissions) == (1, MOST_TRIES - 1)
    assert line.ends[1].counters.lost == 1


def test_the_window_and_the_queue_are_bounded():
    ends = [end(0, timeout_s=1e3), end(1)]
    line = Line(lambda header, payload: header.kind == PacketKind.DATA, ends)
    link = line.ends[0]
    assert link.offer(b"first")
    line.run(4)
    assert all(link.offer(payload) for payload in numbered(WINDOW - 1))
    line.run(WINDOW)
    assert all(link.offer(payload) for payload in numbered(QUEUE))
    assert not link.offer(b"one too many")
    assert link.counters.dropped == 1
    assert link.counters.sent == WINDOW


def test_sequence_numbers_wrap():
    line = Line(random_loss(0.1))
    line.feed(0, numbered(1))
    line.ends[0]._sender._first = line.ends[1]._receiver.next_expected = 65_520
    line.feed(0, numbered(60))
    assert line.heard[1] == numbered(1) + numbered(60)
    assert line.ends[1]._receiver.next_expected == 44


def test_an_end_that_restarts_is_heard_again_and_nothing_arrives_twice():
    line = Line(random_loss(0.2))
    line.feed(0, numbered(40))
    line.ends[0] = end(0, session=9)
    line.feed(0, [b"after the restart"])
    assert line.heard[1] == [*numbered(40), b"after the restart"]
    line.ends[1] = end(1, session=5)  # the number of its session before, by chance
    line.feed(0, [b"to the new one"])
    assert line.heard[1][-1] == b"to the new one"


def test_a_far_side_that_falls_silent_is_not_sent_to_for_ever_and_is_found_again():
    silent = False
    sent = Counter()

    def count(header, payload):
        sent[header.source] += 1
        return silent

    line = Line(count)
    line.feed(0, numbered(5))
    silent = True
    line.feed(0, numbered(3))
    assert line.ends[0].counters.given_up == 3
    before = sent[0]
    line.run(100)
    assert sent[0] == before
    line.feed(0, [b"who is there"])
    assert line.ends[0].counters.given_up == 4
    silent = False
    line.feed(0, numbered(7))
    assert line.heard[1] == numbered(5) + numbered(7)


def test_a_payload_with_errors_is_not_acknowledged_but_its_header_is_read():
    line = Line(lossless)
    line.feed(0, numbered(3))
    one, far = line.ends
    one.offer(b"damaged")
    header, _ = one.next(100.0)
    assert far.receive(header, None) == []
    assert far.counters.bad == 1
    assert far.next(100.0) is None


@pytest.mark.parametrize("session", [0, 16])
def test_a_session_that_does_not_fit_is_refused(session):
    with pytest.raises(BadParameter, match=rf"session must lie in \[1, 15\], got {session}"):
        end(0, session)


def test_an_empty_packet_is_refused():
    with pytest.raises(BadParameter, match="at least 1 byte"):
        end(0).offer(b"")


def test_the_mean_number_of_attempts_is_that_of_independent_losses():
    line = Line(random_loss(0.25))
    line.feed(0, numbered(1500))
    counters = line.ends[0].counters
    attempts = (counters.sent + counters.retransmissions) / counters.sent
    assert np.isclose(attempts, 1.0 / 0.75, rtol=0.1)
