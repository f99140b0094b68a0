"""The radio's commands work without torch, and refuse bad input with one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from channel import scenario, traces
from channel.conformance import CHECKS
from experiments.channel_cli import channel


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(channel, [str(word) for word in words])


def test_list_names_every_scenario() -> None:
    assert list(json.loads(call("list", "--json").stdout)) == scenario.names()
    assert "jammed" in call("list").stdout


def test_check_holds_every_row_against_theory() -> None:
    result = call("check", "--json")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert len(rows) == len(CHECKS)
    assert all(row["is_good"] for row in rows)


def test_simulate_says_what_every_user_got() -> None:
    rows = json.loads(call("simulate", "jammed", "--duration", "0.05", "--json").stdout)
    assert [row["user"] for row in rows] == [*range(6), *range(6)]
    assert all(row["throughput_bps"] >= 0.0 for row in rows)
    assert "BLER" in call("simulate", "jammed", "--duration", "0.05").stdout


def test_show_draws_a_picture_and_says_where(tmp_path: Path) -> None:
    result = call("show", "ideal", "--duration", "0.05", "--out", tmp_path / "link.png")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines()[-1] == str(tmp_path / "link.png")
    assert (tmp_path / "link.png").read_bytes().startswith(b"\x89PNG")


def test_a_trace_can_be_read_again(tmp_path: Path) -> None:
    result = call("trace", "ideal", tmp_path / "t", "--duration", "0.1")
    assert result.exit_code == 0, result.stderr
    assert traces.read_mahimahi(tmp_path / "t").size > 100


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("simulate", "jamed"), "Error: unknown scenario 'jamed'; did you mean 'jammed'?"),
        (("simulate", "ideal", "--duration", "-1"), "Error: duration_s must be above 0, got -1"),
        (
            ("trace", "ideal", "t", "--user", "9", "--duration", "0.01"),
            "Error: user must lie in [0, 3], got 9",
        ),
    ],
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], message: str) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1


def test_no_command_imports_torch() -> None:
    code = (
        "import sys\nfrom experiments.channel_cli import channel\n"
        "channel(['simulate', 'ideal', '--duration', '0.01', '--json'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
