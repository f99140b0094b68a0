"""The radio's commands work without torch, and refuse bad input with one line."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from channel.core.link import Transfer
from channel.links.trace import RateRecording, TraceLink, read_recording
from channel.scenario import load as scenario
from channel.validation import Check
from experiments.channel import checks as channel_checks
from experiments.cli.channel import channel


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(channel, [str(word) for word in words])


def test_list_names_every_scenario() -> None:
    assert list(json.loads(call("list", "--json").stdout)) == scenario.names()
    assert "jammed" in call("list").stdout


def test_check_prints_expected_measured_tolerance_and_verdict() -> None:
    result = call("check", "--json", "--row", "13", "--row", "22")
    assert result.exit_code == 0
    rows = json.loads(result.stdout)
    assert [row["row"] for row in rows] == ["13", "22", "22", "22"]
    assert all(row["is_good"] and row["verdict"] == "pass" for row in rows)
    assert rows[1]["expected"] == 0.81
    shown = call("check", "--row", "13").stdout
    assert all(word in shown for word in ("expected", "measured", "tolerance", "verdict", "1 pass, 0 fail"))


@pytest.mark.slow
def test_check_names_the_checks_not_run_with_the_reason() -> None:
    result = call("check", "--json", "--row", "5")
    rows = json.loads(result.stdout)
    assert rows[-1]["verdict"] == "not run here: slow; run with --thorough"
    assert rows[-1]["measured"] is None
    assert result.exit_code == 0
    assert "own fading: not run here: slow" in call("check", "--row", "5").stdout


def test_check_ends_with_1_where_a_row_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Check(row="13", what="wrong", expected=1.0, tolerance=0.1, measure=lambda: 2.0)
    monkeypatch.setattr(channel_checks, "ALL", (wrong,))
    result = call("check")
    assert result.exit_code == 1
    assert "FAIL" in result.stdout


def test_the_table_has_every_row_of_the_design() -> None:
    assert {check.row for check in channel_checks.ALL} == {str(row) for row in range(1, 33)} | {"24b"}


def test_simulate_has_a_row_for_every_user() -> None:
    rows = json.loads(call("simulate", "jammed", "--duration", "0.05", "--json").stdout)
    assert [row["user"] for row in rows] == [*range(6), *range(6)]
    assert all(row["throughput_bps"] >= 0.0 for row in rows)
    assert "BLER" in call("simulate", "jammed", "--duration", "0.05").stdout


def test_show_draws_the_link_on_the_screen() -> None:
    result = call("show", "jammed", "--duration", "0.05")
    assert result.exit_code == 0, result.stderr
    for part in ("SINR, dB", "MCS", "BLER", "Mbit/s", "50% below", "X jammer", "▁"):
        assert part in result.stdout


def test_show_draws_losses_where_there_are_no_places() -> None:
    assert "loss of each link in dB" in call("show", "colosseum-path-loss", "--duration", "0.02").stdout


@pytest.mark.parametrize(
    ("suffix", "begins"), [(".png", b"\x89PNG"), pytest.param(".svg", b"<?xml", marks=pytest.mark.slow)]
)
def test_plot_writes_a_picture_and_says_where(suffix: str, begins: bytes, tmp_path: Path) -> None:
    out = tmp_path / f"link{suffix}"
    result = call("plot", "ideal", "--duration", "0.02", "--out", out)
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [str(out)]
    assert out.read_bytes().startswith(begins)


@pytest.mark.slow
def test_show_writes_the_picture_as_well_where_it_is_asked_to(tmp_path: Path) -> None:
    assert call("show", "colosseum-taps", "--duration", "0.02", "--out", tmp_path / "x.png").exit_code == 0
    assert (tmp_path / "x.png").stat().st_size > 10_000


@pytest.mark.parametrize("name", ["t", "t.csv", "t.tsv", "t.NPZ"])
def test_a_trace_can_be_replayed(name: str, tmp_path: Path) -> None:
    result = call("trace", "ideal", tmp_path / name, "--duration", "0.1")
    assert result.exit_code == 0, result.stderr
    recording = read_recording(tmp_path / name)
    assert result.stdout.strip() == f"{tmp_path / name}: {recording.summary}"
    link = TraceLink(seed=0, up=recording, down=recording)
    sent = Transfer(client=0, direction="down", sequence=0, payload_bytes=100_000, start_s=0.0)
    assert 0.0 < link.transfer(sent).finish_s < 0.1


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t.csv", "t.npz"])
def test_a_trace_of_a_user_that_ends_early_can_be_replayed(name: str, tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text("[place]\nusers = 1\n[traffic]\ndown_bytes = 20000\n")
    result = call("trace", tmp_path / "short.toml", tmp_path / name, "--duration", "1")
    assert result.exit_code == 0, result.stderr
    recording = read_recording(tmp_path / name)
    assert isinstance(recording, RateRecording)
    assert recording.trace.rate_bps[-2] == 0.0
    # The mean over the second that was simulated.
    assert recording.trace.time_s[-1] == 1.0
    assert recording.trace.rate_bps[-1] == pytest.approx(160_000.0)


@pytest.mark.parametrize("name", ["t", "t.csv", "t.npz"])
def test_nothing_is_no_trace(name: str, tmp_path: Path) -> None:
    result = call("trace", "congested-cell", tmp_path / name, "--duration", "0.01")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: a trace needs delivered bits, got none for user 0")
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("suffix", [".mat", ".npz"])
def test_an_export_is_a_scenario(suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"x{suffix}"
    result = call(
        "export", "indoor-hotspot", "--out", out, "--users", "3", "--step", "200", "--duration", "1"
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout.startswith(f"{out}: 4 nodes, 6 times")
    (tmp_path / "again.toml").write_text(result.stdout[result.stdout.index("[place]") :])
    for scenario_name in (out, tmp_path / "again.toml"):
        rows = json.loads(call("simulate", scenario_name, "--duration", "0.05", "--json").stdout)
        assert [row["user"] for row in rows] == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("simulate", "jamed"), "Error: unknown scenario 'jamed'; did you mean 'jammed'?"),
        (("simulate", "ideal", "--duration", "-1"), "Error: duration_s must lie in [1e-06, 86400] s, got -1"),
        (
            ("trace", "ideal", "t", "--user", "9", "--duration", "0.01"),
            "Error: user must lie in [0, 3], got 9",
        ),
        (
            ("plot", "ideal", "--out", "x.gif"),
            "Error: a plot's file name must end in .png, .svg, .pdf, got 'x.gif'",
        ),
        (
            ("export", "ideal", "--out", "x.txt"),
            "Error: a channel matrix must end in .mat or .npz",
        ),
        (("export", "congested-cell", "--out", "x.mat"), "Error: nodes must be at most 52, got 101"),
        (("simulate", "gone.mat"), "Error: scenario must be an existing file, got 'gone.mat'"),
        (("check", "--row", "99"), "Error: row must be one of 1, 2, 3"),
    ],
)
def test_bad_input_is_one_clear_line(words: tuple[str, ...], message: str) -> None:
    result = call(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert len(result.stderr.splitlines()) == 1


def test_no_command_imports_torch() -> None:
    code = (
        "import sys\nfrom experiments.cli.channel import channel\n"
        "channel(['simulate', 'ideal', '--duration', '0.01', '--json'], standalone_mode=False)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, check=True)
