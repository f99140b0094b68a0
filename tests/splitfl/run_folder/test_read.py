"""A run folder is read as it was written, a killed run as far as it came, a damaged one not at all."""

import json
import math
from collections.abc import Callable
from pathlib import Path

import pytest

from splitfl.core.errors import ConfigError
from splitfl.run_folder.events import KINDS
from splitfl.run_folder.read import read_run

MakeRun = Callable[..., Path]


def events_of(folder: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_every_line_becomes_one_typed_row(make_run: MakeRun) -> None:
    folder = make_run(clients=3, rounds=2, steps=4)
    events = read_run(folder).events
    rows = events.steps, events.transfers, events.computes, events.rounds, events.memories
    assert sum(map(len, rows)) == len(events_of(folder))
    assert len(events.steps) == 3 * 2 * 4
    assert events.rounds[1].accuracy == events_of(folder)[-1]["accuracy"]


def test_clients_are_those_of_the_events(make_run: MakeRun) -> None:
    assert read_run(make_run(clients=4, rounds=1)).clients == (0, 1, 2, 3)


def test_settings_are_found_by_their_dotted_name(make_run: MakeRun) -> None:
    run = read_run(make_run())
    assert run.setting("link.up.rate_bps") == 10e6
    with pytest.raises(ConfigError, match=r"config\.json has no setting link\.sideways\.rate_bps"):
        run.setting("link.sideways.rate_bps")


def test_a_cut_last_line_is_passed_over_and_noted(make_run: MakeRun) -> None:
    folder = make_run(rounds=2)
    metrics = folder / "metrics.jsonl"
    whole = len(read_run(folder).events.transfers)
    lines = metrics.read_bytes().splitlines(keepends=True)
    for cut in (b"", b"{", b'{"event":"transfer","kind":"\xc3', lines[0][: len(lines[0]) // 2], b"17"):
        metrics.write_bytes(b"".join(lines) + cut)
        run = read_run(folder)
        assert len(run.events.transfers) == whole
        assert len(run.notes) == bool(cut)
        if cut:
            assert f"Line {len(lines) + 1} of metrics.jsonl is truncated" in run.notes[0]


def test_a_whole_last_line_without_its_newline_counts(make_run: MakeRun) -> None:
    folder = make_run(rounds=1)
    metrics = folder / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().rstrip())
    run = read_run(folder)
    assert len(run.events.rounds) == 1
    assert run.notes == ()


def test_a_line_damaged_in_the_middle_is_refused_by_its_number(make_run: MakeRun) -> None:
    folder = make_run()
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    lines[6] = lines[6][:20]
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    with pytest.raises(ConfigError, match=r"metrics\.jsonl, line 7 is damaged"):
        read_run(folder)


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('{"event":"step","round":0,"step":0,"client":0,"loss":1.0}', "step event: samples is missing"),
        ('{"event":"step","round":0,"step":0,"client":"0","loss":1,"samples":1}', "client must be of type"),
        ('{"event":"step","round":true,"step":0,"client":0,"loss":1,"samples":1}', "round must be of type"),
        ('{"event":"memory","side":"cloud","peak_bytes":1,"base_bytes":1}', "unknown side 'cloud'"),
        (
            '{"event":"compute","round":0,"side":"client","client":1,"flops":1,"start_s":2,"finish_s":1}',
            "finish_s must be at least 2.0, got 1.0",
        ),
        (
            '{"event":"compute","round":0,"side":"client","client":1,"flops":NaN,"start_s":2,"finish_s":3}',
            "flops must be finite, got nan",
        ),
    ],
)
def test_a_wrong_value_is_refused_by_line_and_name(make_run: MakeRun, line: str, complaint: str) -> None:
    folder = make_run()
    metrics = folder / "metrics.jsonl"
    metrics.write_text(line + "\n" + metrics.read_text())
    with pytest.raises(ConfigError) as error:
        read_run(folder)
    assert f"{metrics}, line 1: " in str(error.value)
    assert complaint in str(error.value)


def test_a_loss_that_diverged_is_read(make_run: MakeRun) -> None:
    folder = make_run(rounds=1)
    metrics = folder / "metrics.jsonl"
    diverged = '{"event":"step","round":0,"step":0,"client":0,"loss":NaN,"samples":1}\n'
    metrics.write_text(diverged + metrics.read_text())
    assert math.isnan(read_run(folder).events.steps[0].loss)


def test_events_of_another_version_are_passed_over_and_counted(make_run: MakeRun) -> None:
    folder = make_run(rounds=1)
    metrics = folder / "metrics.jsonl"
    metrics.write_text('{"event":"weather","rain":1}\n' * 3 + metrics.read_text())
    assert read_run(folder).notes == ("3 events of unknown kind 'weather' were skipped.",)


def test_without_a_summary_the_sums_are_those_of_the_events(make_run: MakeRun) -> None:
    folder = make_run()
    written = read_run(folder).summary
    (folder / "summary.json").unlink()
    run = read_run(folder)
    for name in ("method", "model", "task", "rounds", "clients", "bytes_up", "bytes_down", "packets"):
        assert getattr(run.summary, name) == getattr(written, name)
    assert run.summary.final == written.final
    assert math.isclose(run.summary.airtime_s, written.airtime_s)
    assert math.isclose(run.summary.server_flops, written.server_flops)
    assert run.summary.status == "unfinished"
    assert "no summary.json" in run.notes[0]


@pytest.mark.parametrize("name", ["config.json", "environment.json", "metrics.jsonl"])
def test_a_missing_file_is_named(make_run: MakeRun, name: str) -> None:
    folder = make_run()
    (folder / name).unlink()
    with pytest.raises(ConfigError, match=f"cannot read .*{name}: No such file"):
        read_run(folder)


@pytest.mark.parametrize("name", ["config.json", "environment.json", "summary.json"])
@pytest.mark.parametrize("damage", [b"", b'{"a": ', b"[1]", b"\xff\xfe\x00"])
def test_a_damaged_file_is_named(make_run: MakeRun, name: str, damage: bytes) -> None:
    folder = make_run()
    (folder / name).write_bytes(damage)
    with pytest.raises(ConfigError, match=name):
        read_run(folder)


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("bytes_up", "many", "bytes_up must be of type int, got 'many'"),
        ("status", None, "status must be of type str, got None"),
        ("final", {"accuracy": "good"}, "final must hold numbers, got accuracy = 'good'"),
    ],
)
def test_a_wrong_sum_is_refused_by_name(make_run: MakeRun, key: str, value: object, complaint: str) -> None:
    folder = make_run()
    table = json.loads((folder / "summary.json").read_text())
    (folder / "summary.json").write_text(json.dumps({**table, key: value}))
    with pytest.raises(ConfigError) as error:
        read_run(folder)
    assert complaint in str(error.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nowhere is not a run folder"):
        read_run(tmp_path / "nowhere")


def test_every_kind_of_event_has_a_line_in_the_schema() -> None:
    assert set(KINDS) == {"step", "transfer", "compute", "round", "memory", "update", "plan", "leak"}
