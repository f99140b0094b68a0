"""Methods laid side by side: what may be spent, who takes part, who is beaten by nobody."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from experiments.compare import at_budget as spending
from experiments.compare import bytes_to_target as reaching
from experiments.compare import plots as pictures
from experiments.compare.at_budget import within
from experiments.compare.bytes_to_target import reached
from experiments.compare.standings_table import as_table, attacks_in, metric_with_margin
from experiments.report.drawing import canvas
from experiments.report.tally import curve
from experiments.studies.cached_runs import run_once
from splitfl.comparison.budget import Budget
from splitfl.comparison.entrants import ALWAYS
from splitfl.comparison.ranking import Standing
from splitfl.comparison.runs import SeedRun
from splitfl.core.errors import ConfigError
from splitfl.run_folder.read import read_run
from tests.command import Start, splitfl
from tests.splitfl import toy
from tests.testbed.waiting import is_learning, until

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

LINK = {"up": {"rate_bps": 1e6, "delay_s": 0.005}, "down": {"rate_bps": 2e6, "delay_s": 0.005}}


folder = toy.place(is_base=True)


@pytest.fixture(scope="module")
def preset(folder: Path) -> Path:
    path = folder / "toy.json"
    path.write_text(json.dumps(toy.table(folder, link=LINK)))
    return path


@pytest.mark.parametrize("speed", ["declared", pytest.param("measured", marks=pytest.mark.slow)])
def test_a_plan_says_where_it_knows_no_more_than_the_settings_do(preset: Path, speed: str) -> None:
    auto = ('budget="seconds"', "limit=1e6", "every=1", 'methods=["sfl-v2","frozen"]', f'speed="{speed}"')
    same = ("adapter.head.rank=4", "adapter.body.rank=4", *(f"auto.{one}" for one in auto))
    words = [part for one in same for part in ("--set", one)]
    result = CliRunner().invoke(main, ["plan", str(preset), *words])
    assert result.exit_code == 0, result.output
    assert ("the plan uses declared speeds" in result.stderr) is (speed == "measured")


@pytest.mark.slow
def test_a_plan_says_which_bytes_are_estimates(preset: Path) -> None:
    words = ["plan", str(preset), "--set", "codec.activation=uniform+huffman"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 0, result.output
    assert "bytes are estimated: messages of uniform+huffman have no fixed size" in result.stderr
    own = ("auto.budget=seconds", "auto.limit=1e6", 'auto.methods=["sfl-v2","frozen"]')
    refused = CliRunner().invoke(main, [*words, *(part for one in own for part in ("--set", one))])
    assert refused.exit_code == 2
    assert "a size that depends on the data, with which [auto] cannot plan" in refused.stderr


def test_a_plan_describes_the_data_that_was_read(preset: Path) -> None:
    result = CliRunner().invoke(main, ["plan", str(preset), "--json"])
    assert "samples to train on" in result.stderr
    assert json.loads(result.stdout)["planned"]


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_plan_without_a_method_that_can_run_exits_with_2_and_otherwise_with_0(
    options: list[str], preset: Path
) -> None:
    words = ["plan", str(preset), *options, "--methods"]
    none = CliRunner().invoke(main, [*words, "frozen", "--with", "frozen:train.head_lr=0.5"])
    assert none.exit_code == 2
    assert "Error: no method can run: frozen: " in none.stderr
    assert "does not read train.head_lr" in none.stderr
    one = CliRunner().invoke(main, [*words, "frozen,sfl-v2", "--with", "frozen:train.head_lr=0.5"])
    assert one.exit_code == 0
    assert "does not read train.head_lr" in one.output


def made_up(label: str, values: tuple[float, ...], sent: int, metric: str = "accuracy") -> Standing:
    return Standing(
        label=label, method=label, rounds=3, seeds=tuple(range(len(values))), metric=metric, values=values,
        bytes_up=sent, bytes_down=0.0, airtime_s=1.0, energy_j=0.0, virtual_s=2.0, wall_s=3.0,
        client_flops=1e9, client_memory_bytes=1000, is_capped=False,
    )  # fmt: skip


def test_the_margin_is_half_of_students_interval() -> None:
    one = made_up("a", (0.80, 0.82, 0.84), 1)  # s = 0.02, t(0.975, 2) = 4.303
    assert one.margin == pytest.approx(4.3027 * 0.02 / 3**0.5, rel=1e-4)
    assert metric_with_margin(one) == "82.0 % ± 5.0"
    assert made_up("a", (0.8,), 1).margin is None


def test_the_table_has_a_column_for_each_attack_that_probed_an_entrant() -> None:
    found = [replace(made_up("a", (0.8,), 1), leaked={"exact": 1.0}), made_up("b", (0.7,), 1)]
    table = as_table(found)
    assert table.columns[-1].header == "exact"
    assert list(table.columns[-1].cells) == ["100.0 %", ""]
    assert attacks_in(found[1:]) == []


def test_a_quantity_that_no_entrant_spent_is_not_drawn() -> None:
    assert pictures.spent_at_all([made_up("a", (0.8,), 1)]) == ["bytes", "airtime", "memory"]


def test_undominated_entrants_are_in_bold() -> None:
    axes = canvas(500, 300).subplots()
    pictures.draw_front(axes, [made_up("best", (0.8,), 9), made_up("worse", (0.7,), 99)], "bytes")
    named = axes.get_legend()
    assert named is not None
    weights = {text.get_text(): text.get_fontweight() for text in named.get_texts()}
    assert weights == {"best": "bold", "worse": "normal"}


@pytest.mark.slow
def test_a_comparison_runs_everybody_once(preset: Path, start: Start, tmp_path: Path) -> None:
    words: list[str | Path] = [
        "compare",
        "--methods",
        "sfl-v2,hybrid",
        "--preset",
        preset,
        "--seeds",
        "2",
        "--jobs",
        "2",
    ]
    words += ["--out", tmp_path / "runs", "--json"]
    first = splitfl(start, tmp_path, *words)
    assert first.code() == 0, first.complained()
    labels = ["sfl-v2", "hybrid", *ALWAYS]
    rows: list[dict[str, Any]] = first.said()["standings"]
    assert sorted(row["label"] for row in rows) == sorted(labels)
    assert all(row["seeds"] == [0, 1] and row["rounds"] == 2 for row in rows)
    assert first.said()["excluded"] == first.said()["failed"] == {}
    folder = tmp_path / "runs" / "compare-toy"
    written = {label: (folder / label / "seed-1" / "summary.json").stat().st_mtime_ns for label in labels}
    page = (folder / "comparison.html").read_text()
    assert all(f"By {what}" in page for what in ("bytes", "airtime", "energy", "memory"))
    assert (folder / "comparison.png").stat().st_size > 0

    (row,) = [row for row in rows if row["label"] == "sfl-v2"]
    half = int(0.6 * (row["bytes_up"] + row["bytes_down"]))
    again = splitfl(start, tmp_path, *words, "--at", f"bytes={half}B")
    assert again.code() == 0, again.complained()
    spent = {row["label"]: row for row in again.said().pop("within")}
    assert spent.keys() == set(labels)
    assert (spent["sfl-v2"]["rounds"], spent["frozen"]["rounds"]) == ([1, 1], [2, 2])
    assert {key: value for key, value in again.said().items() if key != "within"} == first.said()
    assert written == {
        label: (folder / label / "seed-1" / "summary.json").stat().st_mtime_ns for label in labels
    }

    other = splitfl(start, tmp_path, *words, "--set", "federation.local_steps=2")
    assert other.code() == 2
    assert "holds a run of other settings" in other.complained()


@pytest.mark.slow
def test_a_killed_comparison_leaves_no_process_behind(preset: Path, start: Start, tmp_path: Path) -> None:
    words: list[str | Path] = ["compare", "--methods", "sfl-v2", "--preset", preset, "--jobs", "2"]
    words += ["--set", "federation.rounds=60", "--out", tmp_path / "runs"]
    command = splitfl(start, tmp_path, *words)
    until(lambda: is_learning(tmp_path / "runs"), 180.0)
    workers = psutil.Process(command.process.pid).children(recursive=True)
    assert len(workers) >= 2
    command.process.kill()
    assert not psutil.wait_procs(workers, timeout=10)[1]


def test_bytes_until_a_metric_are_those_of_the_first_round_that_has_it(folder: Path, tmp_path: Path) -> None:
    config = toy.config(folder, link=LINK)
    run_once(config, tmp_path / "run")
    run = read_run(tmp_path / "run")
    spent = curve(run, "accuracy", "bytes")
    seed_run = SeedRun(label="sfl-v2", seed=0, config=config, folder=tmp_path / "run")
    one = made_up("sfl-v2", (0.5,), 1)
    first, never = (reached([one], [seed_run], target)[0] for target in (min(spent.ys), 1.01))
    assert first.values == (spent.xs[0],) == (first.mean,)
    assert sum(row.payload_bytes for row in run.events.transfers if row.round == 0) == first.mean
    assert never.mean is None
    table = reaching.as_table(sorted([never, first], key=lambda row: row.mean is None), "accuracy", 0.5)
    assert [list(column.cells) for column in table.columns][1][1] == "not reached"


def test_the_result_within_a_budget_is_the_last_measurement_that_it_allows(
    folder: Path, tmp_path: Path
) -> None:
    config = toy.config(folder, link=LINK)
    run_once(config, tmp_path / "run")
    spent = curve(read_run(tmp_path / "run"), "accuracy", "bytes")
    seed_run = SeedRun(label="sfl-v2", seed=0, config=config, folder=tmp_path / "run")
    one = made_up("sfl-v2", (0.5,), 1)
    amounts = (spent.xs[0] - 1, spent.xs[0], spent.xs[1] - 1, 10 * spent.xs[-1])
    rows = [within([one], [seed_run], Budget(kind="bytes", limit=amount))[0] for amount in amounts]
    never, first, still, all_of_it = rows
    assert (never.values, never.mean, never.rounds) == ((None,), None, (0,))
    assert first == still
    assert (first.values, first.spent, first.rounds) == ((spent.ys[0],), (spent.xs[0],), (1,))
    assert (all_of_it.values, all_of_it.spent) == ((spent.ys[-1],), (spent.xs[-1],))
    table = spending.as_table([first, never], "accuracy", Budget(kind="bytes", limit=1e6))
    assert [list(column.cells) for column in table.columns][1][1] == "not evaluated within the budget"


@pytest.mark.parametrize("kind", ["steps", "client_memory"])
def test_a_budget_of_a_quantity_that_is_not_consumed_over_time_is_refused(kind: str) -> None:
    with pytest.raises(ConfigError, match=f"at '{kind}'.*have airtime, bytes, energy"):
        spending.check_spendable(Budget(kind=kind, limit=1.0))
