"""Experiments from Python, as the docstrings show them."""

import doctest
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import splitfl
from splitfl.core.errors import ConfigError
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


def test_the_example_is_true(experiment: dict[str, Any]) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(
        splitfl.run, "splitfl.run", globs={"splitfl": splitfl, "experiment": experiment}
    )
    assert len(example.examples) == 5
    assert doctest.DocTestRunner().run(example).failed == 0


class Rounds(Silent):
    """A screen that counts."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def measured(self, row: Mapping[str, Any]) -> None:
        self.losses.append(row["train_loss"])


def test_metrics_are_columns_and_a_screen_is_told_of_every_round(experiment: dict[str, Any]) -> None:
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


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ({"transport": {"name": "grpc"}}, "splitfl.run runs in one process: transport.name must be 'inproc'"),
        ({"transport.nmae": "x"}, "unknown key 'transport.nmae'; did you mean 'name'"),
        ({"train.seed.first": 1}, "train.seed.first: seed is not a table"),
        ({"federation": {"rounds": 0}}, "rounds must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_run_is_refused_and_leaves_no_folder(
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
