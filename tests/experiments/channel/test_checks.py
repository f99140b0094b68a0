"""Rows of the conformance table that need root, Sionna or a quiet machine; skipped plainly without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.channel import oracle as channel_oracle
from experiments.channel.checks import ALL, verdicts

ROOT = Path(__file__).parents[3]


def agrees(row):
    """In a process of its own: here no test may connect to anything but the loopback."""
    command = [sys.executable, "-m", "experiments", "channel", "check", "--thorough", "--json", "--row", row]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    found = json.loads(done.stdout)
    missing = [one["missing"] for one in found if one["missing"]]
    if missing:
        pytest.skip(missing[0])
    assert done.returncode == 0, [one for one in found if not one["is_good"]]


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.parametrize("row", ["25", "28"])
def test_the_rows_that_need_namespaces_agree(row):
    agrees(row)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.bench
@pytest.mark.parametrize("row", ["24", "24b"])
def test_tcp_reaches_the_rate_of_the_link(row):
    agrees(row)


@pytest.mark.slow
def test_the_row_of_sionna_agrees():
    agrees("20")


def test_without_root_the_live_rows_say_so(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = verdicts(("24", "24b", "25", "28"), is_thorough=True)
    assert len(found) == 8
    assert {one.word for one in found} == {"not run here: needs root"}


def test_without_sionna_its_row_says_so(monkeypatch):
    monkeypatch.setattr(channel_oracle, "find_spec", lambda name: None)
    (found,) = verdicts(("20",), is_thorough=True)
    assert found.word == "not run here: needs sionna-no-rt: pip install 'splitfl[oracle]'"


def test_quick_checks_leave_out_the_long_ones():
    slow = [check for check in ALL if not check.is_quick]
    found = verdicts([check.row for check in slow], is_thorough=False)
    assert [one.what for one in found if "slow" in one.missing] == [check.what for check in slow]
