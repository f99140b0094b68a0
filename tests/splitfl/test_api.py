"""Experiments from Python, as the docstrings show them."""

import doctest
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import splitfl
from splitfl.core.errors import ConfigError, ModelMissing
from splitfl.runtime.screen import Silent
from splitfl.setup.experiment_file import from_dict
from tests.splitfl import toy


@pytest.fixture(scope="module")
def experiment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model", is_base=True)
    toy.data(folder / "data.tsv")
    return toy.table(folder, transport={"name": "grpc"})


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(("function", "examples"), [(splitfl.run, 5), (splitfl.plan, 1)])
def test_the_examples_are_true(experiment: dict[str, Any], function: object, examples: int) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(
        function, "splitfl", globs={"splitfl": splitfl, "experiment": experiment}
    )
    assert len(example.examples) == examples
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_costs_of_a_plan_equal_those_of_the_run(experiment: dict[str, Any]) -> None:
    planned = splitfl.plan(experiment, ["sfl-v2", "hybrid", "ushape"], own={"hybrid": {"train.seed": 3}})
    assert planned.costs.keys() | planned.excluded.keys() == {"sfl-v2", "hybrid", "ushape"}
    result = splitfl.run(experiment)
    assert planned.costs["sfl-v2"]["bytes_up"] == result.summary.bytes_up
    assert planned.costs["sfl-v2"]["bytes_down"] == result.summary.bytes_down
    assert "<td>sfl-v2</td>" in planned._repr_html_()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"own": {"hybird": {}}}, "unknown label of own 'hybird'; did you mean"),
        ({"methods": [], "method.in_flight": 0}, "in_flight must be at least 1, got 0"),
        (
            {"methods": [], "method": {"perturbations": 40}},
            "unknown key 'method.perturbations'; the method 'sfl-v2' has",
        ),
        ({"methods": ["sfl-v9"]}, "unknown method.* 'sfl-v9'"),
        ({"methods": "sfl-v2, sfl-v9"}, "unknown method.* 'sfl-v9'"),
        ({"model.name": None}, "model.name must have a value, got None"),
        ({"model.name": "a \N{GRINNING FACE}"}, "a \N{GRINNING FACE}"),
    ],
)
def test_an_invalid_plan_is_refused(
    experiment: dict[str, Any], arguments: dict[str, Any], reason: str
) -> None:
    with pytest.raises((ConfigError, ModelMissing), match=reason):
        splitfl.plan(experiment, **{"methods": ["sfl-v2", "hybrid"]} | arguments)


@pytest.mark.parametrize(("name", "least"), [("seeds", 1), ("jobs", 0), ("max_rounds", 1)])
def test_a_number_that_no_comparison_can_have_is_refused(
    experiment: dict[str, Any], name: str, least: int
) -> None:
    with pytest.raises(ConfigError, match=f"{name} must be at least {least}, got {least - 1}"):
        splitfl.compare(experiment, "fedlora", **{name: least - 1})


@pytest.mark.slow
def test_a_comparison_has_columns_and_is_not_run_twice(experiment: dict[str, Any]) -> None:
    told: list[str] = []

    def compare() -> Any:
        return splitfl.compare(experiment, ["fedlora"], seeds=1, on_run=told.append)

    found = compare()
    assert set(found.columns["label"]) == {"fedlora", "frozen", "sfl-v2@checkpointed"}
    assert not found.excluded
    assert not found.failed
    assert found.columns["mean"] == sorted(found.columns["mean"], reverse=True)
    assert told[0] == "fedlora, seed 0: done (3 runs)"
    assert "<td>fedlora</td>" in found._repr_html_()
    written = {folder: (folder / "summary.json").stat().st_mtime_ns for (folder,) in found.runs.values()}
    assert compare() == found
    assert written == {folder: (folder / "summary.json").stat().st_mtime_ns for folder in written}


class Rounds(Silent):
    """A screen that counts."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def measured(self, row: Mapping[str, Any]) -> None:
        self.losses.append(row["train_loss"])


@pytest.mark.slow
def test_metrics_are_columns_and_a_screen_receives_every_round(experiment: dict[str, Any]) -> None:
    screen = Rounds()
    result = splitfl.run(from_dict(experiment), screen=screen, out="here", train={"batch_size": 4})
    assert result.folder.parent == Path("here")
    assert result.folder.name.startswith("sfl-v2-")
    assert result.metrics["round"] == [0, 1]
    assert result.metrics["train_loss"] == screen.losses
    assert {"accuracy", "eval_loss", "finish_s"} <= result.metrics.keys()
    assert "perplexity" not in result.metrics
    assert result.setting("train.batch_size") == 4
    assert result.setting("train.head_lr") == 1e-2
    assert result.environment["command"] == "splitfl.run"


def test_a_result_is_short_on_screen_and_its_costs_are_columns(experiment: dict[str, Any]) -> None:
    result = splitfl.run(experiment, link={"up": {"rate_bps": 1e6}})
    costs, summary = result.costs, result.summary
    assert costs["round"] == result.metrics["round"] == [0, 1]
    for name in ("bytes_up", "bytes_down", "packets", "airtime_s", "client_flops", "server_flops"):
        assert sum(costs[name]) == pytest.approx(getattr(summary, name))
        assert all(value > 0 for value in costs[name])
    assert repr(result).startswith(f"<RunRecord {str(result.folder)!r}: done after 2 rounds, train_loss=0.")
    assert len(repr(result)) < 200
    table = result._repr_html_()
    assert f"<td>{result.name}: done</td>" in table
    assert "<th>held-out accuracy</th>" in table


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"transport": {"name": "grpc"}}, "splitfl.run runs in one process: transport.name must be 'inproc'"),
        ({"transport.nmae": "x"}, "unknown key 'transport.nmae'; did you mean 'name'"),
        ({"train.seed.first": 1}, "train.seed.first: seed is not a table"),
        ({"federation": {"rounds": 0}}, "rounds must be at least 1, got 0"),
    ],
)
def test_an_invalid_experiment_is_refused_and_leaves_no_folder(
    experiment: dict[str, Any], overrides: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        splitfl.run({**experiment, "train": {"seed": 1}}, **overrides)
    assert not Path("runs").exists()


def test_a_name_that_splitfl_has_not_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'splitfl' has no attribute 'walk'"):
        splitfl.walk  # noqa: B018


def test_importing_splitfl_imports_nothing_heavy() -> None:
    code = "import splitfl, sys; sys.exit(bool({'torch', 'transformers', 'numpy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(splitfl.__file__).parents[1]).returncode == 0
