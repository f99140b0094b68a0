"""An emulator that cannot keep up says so, once in a while, and counts it."""

import logging

import pytest

from channel.live.lateness import LatenessMonitor


def test_being_in_time_is_not_worth_a_word(caplog: pytest.LogCaptureFixture) -> None:
    lateness = LatenessMonitor()
    for number in range(3000):
        lateness.note(number * 1e-3, number * 1e-3 + 0.0005)
    figures = lateness.figures()
    assert caplog.records == []
    assert (figures.packets, figures.late_share, figures.bad_seconds) == (3000, 0.0, 0)
    assert 0.0005 <= figures.median_s <= figures.p99_s <= 0.0006
    assert figures.worst_s == pytest.approx(0.0005)


def test_lateness_is_warned_about_with_numbers(caplog: pytest.LogCaptureFixture) -> None:
    lateness = LatenessMonitor()
    with caplog.at_level(logging.WARNING):
        for number in range(5000):
            due_s = number * 1e-3
            lateness.note(due_s, due_s + (0.05 if number % 5 == 0 else 0.0))
    figures = lateness.figures()
    assert figures.late_share == 0.2
    assert figures.bad_seconds >= 4
    assert figures.p99_s == pytest.approx(0.05, abs=2e-4)
    (record,) = caplog.records  # not one for each bad second
    assert "cannot keep up" in record.getMessage()
    assert "more than 5 ms late" in record.getMessage()


def test_nothing_let_go_is_no_lateness() -> None:
    figures = LatenessMonitor().figures()
    assert (figures.packets, figures.median_s, figures.worst_s, figures.late_share) == (0, 0.0, 0.0, 0.0)
