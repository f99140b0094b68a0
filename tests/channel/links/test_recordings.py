import gzip

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.links import recordings as traces
from channel.links.recordings import LinkTrace
from channel.links.trace import read_recording

TRACE = LinkTrace(
    time_s=np.asarray([0.0, 0.1, 0.35]),
    rate_bps=np.asarray([1e6, 2.5e6, 0.0]),
    delay_s=np.asarray([0.01, 0.02, 0.03]),
    loss_rate=np.asarray([0.0, 0.1, 1.0]),
)


@pytest.mark.parametrize(
    ("write", "read", "name"),
    [
        (traces.write_csv, traces.read_csv, "t.csv"),
        (traces.write_tsv, traces.read_csv, "t.tsv"),
        (traces.write_npz, traces.read_npz, "t.NPZ"),
    ],
)
def test_written_files_are_read_back(write, read, name, tmp_path):
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
    with pytest.raises(BadParameter, match="times must not decrease, got 4 after 5 in row 2"):
        traces.read_mahimahi(tmp_path / "t")
    (tmp_path / "t.csv").write_text("time_s,rate_bps,delay_s,loss_rate\n1,1e6,0,0\n0,1e6,0,0\n")
    with pytest.raises(BadParameter, match="time_s must not decrease, got 0 after 1 in row 1"):
        traces.read_csv(tmp_path / "t.csv")


def test_a_trace_without_a_packet_or_with_words_is_refused(tmp_path):
    with pytest.raises(BadParameter, match="needs at least 12000 bits, got 100"):
        traces.write_mahimahi(tmp_path / "t", np.asarray([100.0]), 0.01)
    for text, where in (("one\n", "'one' in line 1"), ("1\n\n2 3\n", "'2 3' in line 3"), ("1.5\n", "'1.5'")):
        (tmp_path / "t").write_text(text)
        with pytest.raises(BadParameter, match=f"must hold whole milliseconds, one per line, got {where}"):
            traces.read_mahimahi(tmp_path / "t")


HEAD = "time_s,rate_bps,delay_s,loss_rate\n"
ROWS = "0,20e6,0.01,0\n1,5e6,0.02,0.01\n"
LIKE = "rate 12.5 Mbit/s, median delay 15 ms, mean loss 0.50%; the last row, 5 Mbit/s, holds"


@pytest.mark.parametrize(
    ("text", "more"),
    [
        (HEAD + ROWS, ""),
        ("\ufeff" + HEAD + ROWS, ""),
        ((HEAD + ROWS).replace(",", ", "), ""),
        ((HEAD + ROWS).replace(",", ";"), ""),
        ((HEAD + ROWS).replace(",", "\t"), ""),
        ((HEAD + ROWS).replace("\n", "\r\n"), ""),
        ("# a comment\n\n" + HEAD.replace("time_s", '"Time_S"') + "\n" + ROWS + "# the end", ""),
        (
            "rsrp," + HEAD + "-90," + ROWS.replace("\n", "\n-91,", 1),
            "; columns not read: rsrp",
        ),
        ("delay_s,time_s,loss_rate,rate_bps\n.01,0,0,20e6\n.02,1,.01,5e6", ""),
    ],
)
def test_a_table_is_read_however_it_was_saved(text, more, tmp_path):
    (tmp_path / "t.CSV").write_bytes(text.encode())
    found = read_recording(tmp_path / "t.CSV")
    assert found.summary == f"2 rows over 1 s, median {LIKE}{more}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEAD + "0,0,20000000,0,01,0", "4 fields in .* got 6 in line 2; a decimal comma counts as a separ"),
        (HEAD + "0,20e6,0.01", "must have 4 fields in every line as in its first, got 3 in line 2$"),
        (HEAD.replace(",", ";") + "0,5;20e6;0;0", "got '0,5' in line 2 of t.csv; decimals need a point"),
        (HEAD + "# x\n0,20e6,nan,0", "delay_s must be a finite number, got 'nan' in line 3 of t.csv"),
        ("time_s,rate_bps,Rate_bps,delay_s,loss_rate\n", "got 2 of them for rate_bps in 'time_s,rate_bps"),
        ("time_s,rate_mbps,delay_s,loss_rate\n", "got none for rate_bps in 'time_s,rate_mbps"),
        (ROWS, "in its first line, got none for time_s in '0,20e6"),
        ("", "must have the columns time_s, rate_bps, delay_s, loss_rate, got no line"),
        (HEAD + "0,20,0,0", r"rate_bps must reach 1000 bit/s .*, got at most 20; 20 Mbit/s are 2e\+07"),
        (HEAD + "0,1e15,0,0", r"rate_bps must be at most 1e\+12 bit/s, got 1e\+15"),
        (HEAD + "0,2e7,25,0", "delay_s must be at most 2 s in the median .*, got 25; 25 ms are 0.025"),
        (HEAD + "0,2e7,0,0\n1,2e7,0,0\n2,2e7,90,0", "and 60 s at all, got 90"),
        (HEAD + "0,2e7,0,5", r"loss_rate must lie in \[0, 1\], got 5; 5% are 0.05"),
        (HEAD + "1583000000000,2e7,0,0", "got 1583000000000 to .*, which would be 2020-02-29 as ms since"),
        (HEAD + "0,2e7,0,0\n9e5,2e7,0,0", "end within a week of its start"),
        (HEAD, "t.csv: columns must have at least one row, got none"),
        (HEAD + "0,2e7,0,0\n1,0,0,0", r"the last rate_bps of t.csv \(it stays\) must be above 0, got 0.0"),
    ],
)
def test_a_table_that_can_hardly_be_meant_is_refused_by_the_true_reason(text, message, tmp_path):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(BadParameter, match=message):
        read_recording(tmp_path / "t.csv")


def test_values_of_an_array_file_are_checked_too(tmp_path):
    np.savez(tmp_path / "t.npz", time_s=[0.0], rate_bps=[20.0], delay_s=[0.0], loss_rate=[0.0])
    with pytest.raises(
        BadParameter, match=r"t.npz: rate_bps must reach 1000 bit/s somewhere, got at most 20"
    ):
        read_recording(tmp_path / "t.npz")


def test_an_array_of_another_shape_is_refused(tmp_path):
    np.savez(tmp_path / "t.npz", time_s=[[0.0]], rate_bps=[2e7], delay_s=[0.0], loss_rate=[0.0])
    with pytest.raises(BadParameter, match=r"t.npz: columns must be vectors of one length, got the shapes"):
        read_recording(tmp_path / "t.npz")


def test_unix_time_in_seconds_is_a_beginning_like_any_other(tmp_path):
    (tmp_path / "t.csv").write_text(HEAD + "1583000000,2e7,0.01,0\n1583000060,2e7,0.01,0\n")
    assert read_recording(tmp_path / "t.csv").summary.startswith("2 rows over 60 s")


@pytest.mark.parametrize("text", ["\ufeff1\n3\n", "# mahimahi\n1\n\n 3 \n", "1\r\n3"])
def test_a_mahimahi_trace_may_begin_with_a_mark_and_hold_comments(text, tmp_path):
    (tmp_path / "t").write_bytes(text.encode())
    found = read_recording(tmp_path / "t")
    assert found.summary.startswith(
        "2 opportunities of 1500 bytes over 0.003 s, mean rate 8 Mbit/s, delay 0 ms"
    )
    assert found.summary.endswith("; repeats")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1583000000000\n1583000000001\n", "got 1583000000001, which would be 2020-02-29 as ms since 1970"),
        ("1583000000\n1583000001\n", "got 1583000001, which would be 2020-02-29 as s since 1970"),
        ("9" * 400, "must hold whole milliseconds"),
        ("0\n0\n", "t.up must end after 0 ms: its last time is its period"),
        (HEAD + ROWS, "in line 1; a table of rates has a name that ends in .csv"),
    ],
)
def test_a_mahimahi_trace_that_would_wait_for_years_is_refused(text, message, tmp_path):
    (tmp_path / "t.up").write_text(text)
    with pytest.raises(BadParameter, match=message):
        read_recording(tmp_path / "t.up")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (gzip.compress(b"1\n2\n", mtime=0), "t must be plain text, got gzip data: decompress it"),
        ("1\n2\n".encode("utf-16"), "t must be text in UTF-8, got UTF-16: save it as UTF-8"),
    ],
)
def test_packed_and_foreign_text_is_refused_by_its_kind(data, message, tmp_path):
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(BadParameter, match=message):
        read_recording(tmp_path / "t")
