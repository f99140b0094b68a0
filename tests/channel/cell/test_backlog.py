"""What was sent again is found where it belongs, and nothing twice."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from channel.cell.backlog import Backlog

QUEUE = 1


def send(backlog, bits):
    """Takes bits off the queue, and says which of its stream they were."""
    place = float(backlog.sent_Q[QUEUE])
    bits = min(bits, float(backlog.left_Q[QUEUE]))
    backlog.left_Q[QUEUE] -= bits
    backlog.sent_Q[QUEUE] += bits
    return place, bits


def test_bits_wait_until_they_are_ready():
    backlog = Backlog(2, memory_grants=4)
    backlog.add(7, QUEUE, 100.0)
    backlog.ready(6)
    assert not backlog.left_Q.any()
    assert backlog.next_grant == 7
    backlog.ready(7)
    assert backlog.left_Q.tolist() == [0.0, 100.0, 0.0]
    assert backlog.next_grant is None


def test_retransmissions_are_sent_first():
    backlog = Backlog(2, memory_grants=4)
    backlog.add(0, QUEUE, 100.0)
    backlog.ready(0)
    first = send(backlog, 30.0)
    send(backlog, 20.0)
    (lost,) = backlog.ranges(QUEUE, *first)
    backlog.add(1, QUEUE, 30.0, lost)
    backlog.ready(1)
    assert backlog.ranges(QUEUE, *send(backlog, 40.0)) == [(0.0, 30.0), (50.0, 60.0)]
    assert backlog.ranges(QUEUE, *send(backlog, 40.0)) == [(60.0, 100.0)]


@given(st.lists(st.tuples(st.integers(1, 40), st.booleans()), min_size=1, max_size=60))
def test_every_bit_arrives_once_despite_losses(outcomes):
    backlog, came = Backlog(2, memory_grants=4), np.zeros(300)
    backlog.add(0, QUEUE, 300.0)
    flying = []
    steps = [*outcomes, *([(40, True)] * 60)]
    for grant, (bits, is_good) in enumerate(steps, start=1):
        backlog.ready(grant)
        if backlog.left_Q[QUEUE]:
            flying.append((grant + 3, *send(backlog, float(bits)), is_good))
        while flying and flying[0][0] <= grant:
            _, place, length, has_come = flying.pop(0)
            for begin, end in backlog.ranges(QUEUE, place, length):
                if has_come:
                    came[int(begin) : int(end)] += 1
                else:
                    backlog.add(grant + 1, QUEUE, end - begin, (begin, end))
    assert np.all(came == 1.0)


def test_an_emptied_queue_resets():
    backlog = Backlog(2, memory_grants=4)
    backlog.add(0, QUEUE, 50.0)
    backlog.ready(0)
    backlog.add(1, QUEUE, 50.0, backlog.ranges(QUEUE, *send(backlog, 50.0))[0])
    backlog.ready(1)
    send(backlog, 50.0)
    backlog.forget(QUEUE)
    backlog.add(2, QUEUE, 10.0)
    backlog.ready(2)
    assert backlog.ranges(QUEUE, *send(backlog, 10.0)) == [(50.0, 60.0)]
