import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from channel.iq.fifo import SampleFifo


@given(sizes=st.lists(st.integers(0, 9), max_size=8), takes=st.lists(st.integers(0, 9), max_size=8))
def test_samples_come_out_in_order_however_they_are_cut(sizes, takes):
    fifo, sent = SampleFifo(), np.arange(sum(sizes)).astype(np.complex64)
    for piece in np.split(sent, np.cumsum(sizes)[:-1]):
        fifo.put(piece)
    taken = [fifo.take(min(count, len(fifo))) for count in takes]
    count = sum(part.size for part in taken)
    assert np.array_equal(np.concatenate([np.empty(0, np.complex64), *taken]), sent[:count])
    assert len(fifo) == sent.size - count
    assert fifo.clear() == sent.size - count
    assert len(fifo) == 0
