"""The commands do what they say, leave a folder that can be gone on from, and answer at once."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import splitfl.runtime.run as runtime
from experiments.cli.main import main
from splitfl.adapters.registry import ADAPTERS
from splitfl.federation.aggregators import AGGREGATORS
from splitfl.methods.registry import METHODS
from tests.splitfl import toy

COMMANDS = (
    "run",
    "serve",
    "join",
    "resume",
    "plan",
    "compare",
    "eval",
    "generate",
    "report",
    "list",
    "cite",
    "channel",
    "certs",
    "doctor",
    "lab",
    "testbed",
    "radio",
    "privacy",
    "attack",
)
SLOW_TO_IMPORT = ("torch", "transformers", "peft", "matplotlib", "rich", "numpy", "jinja2", "datasets")


def splitfl(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model", is_base=True)
    toy.data(folder / "data.tsv")
    (folder / "toy.json").write_text(json.dumps(toy.table(folder)))
    return folder


@pytest.fixture(scope="module")
def done(place: Path) -> dict[str, Any]:
    """What a run of the toy experiment says with --json."""
    result = splitfl("run", place / "toy.json", "--out", place / "runs", "--json")
    assert result.exit_code == 0, result.stderr
    said: dict[str, Any] = json.loads(result.stdout)
    return said


def events(folder: Path, kind: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row for row in rows if row["event"] == kind]


def test_help_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys\nfrom experiments.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert not end.code\n"
        f"print([name for name in {SLOW_TO_IMPORT} if name in sys.modules], file=sys.stderr)"
    )
    asked = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert asked.stderr.strip() == "[]"
    assert all(f"\n  {command} " in asked.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", [(), *((command,) for command in COMMANDS)])
def test_every_command_has_help(command: tuple[str, ...]) -> None:
    result = splitfl(*command, "--help")
    assert result.exit_code == 0
    assert result.stdout.startswith("Usage: ")
    assert splitfl(*command, "-h").stdout == result.stdout


def test_the_commands_are_those() -> None:
    assert set(main.commands) == set(COMMANDS)


@pytest.mark.slow
def test_a_run_prints_its_results(done: dict[str, Any]) -> None:
    folder = Path(done["folder"])
    assert done["status"] == "done"
    assert {"bytes_up", "bytes_down", "packets", "airtime_s", "virtual_s", "wall_s"} <= done.keys()
    assert json.loads((folder / "summary.json").read_text()) == {
        k: v for k, v in done.items() if k != "folder"
    }
    names = {"config.json", "environment.json", "metrics.jsonl", "summary.json", "report.html"}
    assert names | {"adapter", "checkpoint"} == {path.name for path in folder.iterdir()}


@pytest.mark.slow
def test_a_run_shows_a_table_to_a_person(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = splitfl("run", place / "toy.json", "--set", "federation.rounds=1")
    assert result.exit_code == 0
    assert "held-out accuracy" in result.stdout
    assert "report.html" in result.stdout
    lines = result.stderr.splitlines()
    assert lines[0].startswith("toy: sfl-v2, ")
    assert lines[0].endswith("classification, 2 clients, 1 rounds")
    assert lines[1].endswith(
        "data.tsv: 120 rows, text from column 'text', label from column 'label', group from column 'group'"
    )
    assert [line.split(":")[0].strip() for line in lines[2:5]] == [
        "106 samples to train on, 14 held out",
        "2 classes, numbered by name",
        "849 tokens in 106 texts",
    ]
    assert [line.split()[0] for line in lines[5:] if line.strip()] == ["round"]


def test_eval_equals_the_last_metrics_of_the_run(done: dict[str, Any]) -> None:
    result = splitfl("eval", done["folder"], "--json")
    assert result.exit_code == 0, result.stderr
    measured = json.loads(result.stdout)
    names = ("eval_loss", "accuracy", "macro_accuracy", "f1", "mcc")
    assert measured == {name: done["final"][name] for name in names} | {"samples": 14}


@pytest.mark.slow
def test_an_evaluation_file_is_measured_whole_with_the_classes_of_the_run(
    done: dict[str, Any], tmp_path: Path
) -> None:
    rows = toy.data(tmp_path / "all.tsv", rows=40).read_text().splitlines()
    (tmp_path / "one.tsv").write_text("\n".join(row for row in rows if "\tair\t" not in row) + "\n")
    measured = []
    for name in ("all.tsv", "one.tsv"):
        result = splitfl("eval", done["folder"], "--data", tmp_path / name, "--json")
        assert result.exit_code == 0, result.stderr
        measured.append(json.loads(result.stdout))
        assert f"{measured[-1]['samples']} samples to measure" in result.stderr
    both, one = measured
    assert (both["samples"], one["samples"]) == (40, sum("\twire\t" in row for row in rows))
    (tmp_path / "other.tsv").write_text("text\tlabel\nthe server\tair\na link\twater\n")
    result = splitfl("eval", done["folder"], "--data", tmp_path / "other.tsv")
    assert result.exit_code == 2
    assert "line 3: label 'water' is none of this run's: air, wire" in result.stderr


def test_a_run_writes_its_classes_into_its_settings(done: dict[str, Any]) -> None:
    assert json.loads((Path(done["folder"]) / "config.json").read_text())["task"]["labels"] == ["air", "wire"]


@pytest.mark.slow
def test_the_settings_of_a_run_give_the_same_run_again(done: dict[str, Any], tmp_path: Path) -> None:
    folder = Path(done["folder"])
    result = splitfl("run", folder / "config.json", "--out", tmp_path, "--json")
    assert result.exit_code == 0, result.stderr
    again = Path(json.loads(result.stdout)["folder"])
    assert again.name.startswith(folder.name)
    assert events(again, "step") == events(folder, "step")
    assert events(again, "transfer") == events(folder, "transfer")
    assert (again / "config.json").read_text() == (folder / "config.json").read_text()


@pytest.mark.slow
def test_a_run_folder_is_never_overwritten(done: dict[str, Any], place: Path, tmp_path: Path) -> None:
    short = ("--set", "federation.rounds=1", "--set", "federation.local_steps=1", "--set", "eval.every=0")
    folders = set()
    for _ in range(2):
        result = splitfl("run", place / "toy.json", "--out", tmp_path, "--json", *short)
        assert result.exit_code == 0, result.stderr
        folders.add(json.loads(result.stdout)["folder"])
    assert len(folders) == 2
    assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.slow
def test_report_writes_the_page_anew(done: dict[str, Any]) -> None:
    page = Path(done["folder"]) / "report.html"
    before = page.read_text()
    page.unlink()
    assert splitfl("report", done["folder"]).stdout.strip() == str(page)
    assert page.read_text() == before


def test_compare_lays_runs_side_by_side(done: dict[str, Any], tmp_path: Path) -> None:
    page = tmp_path / "both.html"
    result = splitfl("compare", done["folder"], done["folder"], "--out", page, "--json")
    assert result.exit_code == 0, result.stderr
    rows = json.loads(result.stdout)
    assert [row["bytes_up"] for row in rows] == [done["bytes_up"]] * 2
    assert rows[0]["final"]["accuracy"] == done["final"]["accuracy"]
    assert "<html" in page.read_text()
    shown = splitfl("compare", done["folder"], "--out", page)
    assert shown.exit_code == 0
    assert str(done["bytes_up"]) in shown.stdout.replace("\n", "")


@pytest.mark.slow
def test_an_internal_error_of_a_run_leaves_its_traceback_in_the_runs_folder(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(runtime, "run_inproc", broken)
    result = splitfl("run", place / "toy.json", "--out", tmp_path, "--set", "transport.name=inproc")
    (kept,) = tmp_path.glob("toy-*/splitfl-error-*.txt")
    assert result.exit_code == 1
    assert result.stderr.endswith(f"a bug; this is a bug in splitfl; its traceback is in {kept}\n")
    assert "in broken" in kept.read_text()


@pytest.mark.parametrize(
    "what",
    ["presets", "methods", "adapters", "models", "tasks", "codecs", "links", "aggregators", "trackers"],
)
def test_list_has_a_line_on_each(what: str) -> None:
    rows = json.loads(splitfl("list", what, "--json").stdout)
    assert rows
    assert all(isinstance(about, str) and about for about in rows.values())
    shown = splitfl("list", what).stdout
    assert all(name in shown for name in rows)


def test_list_has_every_preset_and_method() -> None:
    assert {"demo", "lm", "sst2"} <= json.loads(splitfl("list", "presets", "--json").stdout).keys()
    assert json.loads(splitfl("list", "methods", "--json").stdout).keys() == METHODS.keys()
    assert {"minilm", "bert", "gpt2", "llama"} <= json.loads(
        splitfl("list", "models", "--json").stdout
    ).keys()


@pytest.mark.parametrize("name", METHODS)
def test_cite_has_an_entry_for_everything_a_preset_uses(name: str) -> None:
    result = splitfl("cite", "demo", "--set", f"method.name={name}")
    assert result.exit_code == 0
    assert result.stdout.count("\n}") == result.stdout.count("\n@") + 1
    assert "hu2022lora" in result.stdout
    assert len(set(result.stdout.split("\n\n"))) == len(result.stdout.split("\n\n"))


@pytest.mark.parametrize("kind", ADAPTERS)
def test_cite_knows_every_kind_of_adapter(kind: str) -> None:
    said = splitfl("cite", "demo", "--set", f"adapter.body.kind={kind}").stdout
    assert ADAPTERS[kind].citation in said


@pytest.mark.parametrize("aggregator", AGGREGATORS)
def test_cite_knows_every_aggregator(aggregator: str) -> None:
    said = splitfl("cite", "demo", "--set", f"federation.aggregator={aggregator}").stdout
    for name, spec in AGGREGATORS.items():
        assert not spec.bibtex or (spec.bibtex in said) == (name == aggregator)


@pytest.mark.slow
def test_a_run_that_diverges_ends_with_the_step_named(place: Path, tmp_path: Path) -> None:
    wild = ("--set", "train.body_lr=1e30", "--set", "train.head_lr=1e30")
    result = splitfl("run", place / "toy.json", "--out", tmp_path, *wild)
    assert result.exit_code == 1, result.output
    assert "the training loss of client" in result.stderr
    assert "beyond train.max_loss" in result.stderr


@pytest.fixture
def counted() -> Callable[[Path], int]:
    return lambda folder: len(events(folder, "round"))


@pytest.mark.slow
def test_data_may_be_given_by_a_flag(place: Path, tmp_path: Path, counted: Callable[[Path], int]) -> None:
    data = toy.data(tmp_path / 'with a "quote" and = sign.tsv', rows=60)
    short = ("--set", "federation.rounds=1")
    result = splitfl("run", place / "toy.json", "--data", data, "--out", tmp_path / "runs", "--json", *short)
    assert result.exit_code == 0, result.stderr
    folder = Path(json.loads(result.stdout)["folder"])
    assert json.loads((folder / "config.json").read_text())["task"]["data"] == str(data)
    assert counted(folder) == 1
