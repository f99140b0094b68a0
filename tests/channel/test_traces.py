import numpy as np
import pytest

from channel import traces
from channel.errors import BadParameter
from channel.traces import LinkTrace

TRACE = LinkTrace(
    time_s=np.asarray([0.0, 0.1, 0.35]),
    rate_bps=np.asarray([1e6, 2.5e6, 0.0]),
    delay_s=np.asarray([0.01, 0.02, 0.03]),
    loss_rate=np.asarray([0.0, 0.1, 1.0]),
)


@pytest.mark.parametrize(
    ("write", "read", "name"),
    [(traces.write_csv, traces.read_csv, "t.csv"), (traces.write_npz, traces.read_npz, "t.npz")],
)
def test_what_is_written_is_read(write, read, name, tmp_path):
    write(tmp_path / name, TRACE)
    found = read(tmp_path / name)
    assert all(np.array_equal(getattr(found, one), getattr(TRACE, one)) for one in traces.COLUMNS)


def test_a_value_holds_until_the_next():
    assert TRACE.at(np.asarray([0.0, 0.2, 9.0]))["rate_bps"].tolist() == [1e6, 2.5e6, 0.0]


def test_a_mahimahi_trace_delivers_the_bits_it_was_made_of(tmp_path):
    count = traces.write_mahimahi(tmp_path / "t", np.asarray([24_000.0, 0.0, 30_000.0]), 0.01)
    assert count == 4
    assert (traces.read_mahimahi(tmp_path / "t") * 1e3).tolist() == [5.0, 10.0, 24.0, 28.0]


def test_times_that_go_back_are_refused(tmp_path):
    (tmp_path / "t").write_text("1\n5\n4\n")
    with pytest.raises(BadParameter, match="times must not go back, got 4 after 5 in row 2"):
        traces.read_mahimahi(tmp_path / "t")
    (tmp_path / "t.csv").write_text("time_s,rate_bps,delay_s,loss_rate\n1,1,0,0\n0,1,0,0\n")
    with pytest.raises(BadParameter, match="time_s must not go back, got 0 after 1 in row 1"):
        traces.read_csv(tmp_path / "t.csv")


def test_a_trace_without_a_packet_or_with_words_is_refused(tmp_path):
    with pytest.raises(BadParameter, match="needs at least 12000 bits, got 100"):
        traces.write_mahimahi(tmp_path / "t", np.asarray([100.0]), 0.01)
    (tmp_path / "t").write_text("one\n")
    with pytest.raises(BadParameter, match="must hold whole milliseconds"):
        traces.read_mahimahi(tmp_path / "t")
