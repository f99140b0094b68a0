import math

import pytest

from channel.validation import CHECKS, Check, NotRunHere, verdict

CASES = [
    pytest.param(check, id=f"{check.row} {check.what}", marks=() if check.is_quick else pytest.mark.slow)
    for check in CHECKS
]


@pytest.mark.parametrize("check", CASES)
def test_theory_and_practice_agree(check):
    found = verdict(check)
    if found.missing:
        pytest.skip(found.word)
    assert found.is_good, f"expected {found.expected}, measured {found.measured}, within {found.tolerance}"


def test_every_row_of_the_design_that_needs_no_machine_is_here():
    elsewhere = {"20", "24", "24b", "25", "28"}
    assert {check.row for check in CHECKS} == {str(row) for row in range(1, 33)} - elsewhere


def absent():
    raise NotRunHere("needs root")


@pytest.mark.parametrize(
    ("measure", "word"),
    [
        (lambda: 1.05, "pass"),
        (lambda: 1.2, "FAIL"),
        (lambda: math.nan, "FAIL"),
        (absent, "not run here: needs root"),
    ],
)
def test_a_verdict_has_a_word(measure, word):
    found = verdict(Check(row="1", what="", expected=1.0, tolerance=0.1, measure=measure))
    assert (found.word, found.is_good, found.is_bad) == (word, word == "pass", word == "FAIL")
