"""One-way delays: the truth lies within the margin, whatever the clocks' offsets and the ways."""

import json
from pathlib import Path

import pytest

from testbed.clocks import ClockOffset
from testbed.remote.message_delays import ClientDelays, MessageTime, merged_messages

AHEAD_S = 7.0


def write(path: Path, *rows: dict[str, object]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"unfini')


def merged(
    tmp_path: Path, *trips: tuple[float, float, float], measured_ahead_s: float, within_s: float
) -> tuple[list[MessageTime], list[ClientDelays]]:
    """Messages that take `trips` up, at the server and down; the server's clock is AHEAD_S ahead."""
    sent, answered = [], []
    for number, (up_s, at_s, down_s) in enumerate(trips):
        sent_s, key = 100.0 + number, {"client": 0, "digest": f"{number}"}
        row = {**key, "kind": "Activation", "round": 0, "bytes_up": 9, "bytes_down": 4, "sent_s": sent_s}
        sent.append({**row, "received_s": sent_s + up_s + at_s + down_s})
        arrived_s = sent_s + up_s + AHEAD_S
        answered.append({**key, "arrived_s": arrived_s, "answered_s": arrived_s + at_s})
    write(tmp_path / "gpu" / "messages.jsonl", *answered)
    write(tmp_path / "a" / "messages.jsonl", *sent)
    offset = ClockOffset(at_s=100.0, ahead_s=measured_ahead_s, within_s=within_s)
    own = ClockOffset(at_s=100.0, ahead_s=0.0, within_s=0.0)
    return merged_messages(tmp_path, "gpu", {0: "a", 1: "lost"}, {"gpu": [offset], "a": [own]})


@pytest.mark.parametrize("error_s", [-0.05, 0.0, 0.04])
def test_the_true_delay_lies_within_the_margin_of_an_offset_that_is_wrong(
    tmp_path: Path, error_s: float
) -> None:
    trips = [(0.010, 0.5, 0.030), (0.2, 0.1, 0.1), (0.0, 0.0, 0.05)]
    messages, (delays,) = merged(tmp_path, *trips, measured_ahead_s=AHEAD_S + error_s, within_s=0.05)
    for one, (up_s, at_s, down_s) in zip(messages, trips, strict=True):
        assert abs(one.up_s - up_s) <= one.within_s + 1e-9
        assert abs(one.down_s - down_s) <= one.within_s + 1e-9
        assert one.up_s + one.down_s == pytest.approx(up_s + down_s)
        assert one.answered_s - one.arrived_s == pytest.approx(at_s)
        assert one.within_s <= min(0.05, (up_s + down_s) / 2) + 1e-9
    assert (delays.client, delays.messages, delays.contradictory) == (0, 3, 0)


def test_messages_that_the_offset_lets_arrive_before_they_were_sent_are_counted_and_left_out(
    tmp_path: Path,
) -> None:
    trips = [(0.01, 0.1, 0.01), (0.9, 0.1, 0.9)]
    messages, (delays,) = merged(tmp_path, *trips, measured_ahead_s=AHEAD_S + 0.5, within_s=0.05)
    assert [one.sent_s for one in messages] == [101.0]
    assert (delays.messages, delays.contradictory) == (1, 1)


def test_a_request_that_was_repeated_from_a_checkpoint_matches_the_answer_of_its_own_time(
    tmp_path: Path,
) -> None:
    key = {"client": 0, "digest": "same"}
    plain = {**key, "kind": "Activation", "round": 0, "bytes_up": 9, "bytes_down": 4}
    write(tmp_path / "a" / "messages.jsonl", {**plain, "sent_s": 200.0, "received_s": 200.3})
    answers = ({**key, "arrived_s": at_s, "answered_s": at_s + 0.1} for at_s in (100.1, 200.1))
    write(tmp_path / "gpu" / "messages.jsonl", *answers)
    exact = [ClockOffset(at_s=100.0, ahead_s=0.0, within_s=0.0)]
    ((message,), _) = merged_messages(tmp_path, "gpu", {0: "a"}, {"gpu": exact, "a": exact})
    assert message.arrived_s == pytest.approx(200.1)


def test_without_an_offset_of_the_server_nothing_is_stated(tmp_path: Path) -> None:
    assert merged_messages(tmp_path, "gpu", {0: "a"}, {}) == ([], [])
