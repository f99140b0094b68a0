"""A kind of adapter of another package works wherever splitfl's own do, with no file of splitfl changed."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from splitfl.adapters.registry import ADAPTERS
from splitfl.adapters.targets import targets
from splitfl.config import AdapterConfig
from splitfl.controller.dry_run import run_dry
from splitfl.core.errors import ConfigError
from splitfl.models.families import SEQUENCE_CLASSIFICATION
from splitfl.models.load import load_piece
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from tests.foreign.outer_adapter import OUTER
from tests.quick import quick
from tests.splitfl import tiny, toy
from tests.splitfl.accounting.test_flops import assert_agreement
from tests.splitfl.adapters.kinds import side
from tests.splitfl.adapters.test_kinds import CUT, loaded, pieces_of, train
from tests.splitfl.driver import play
from tests.splitfl.split_loss import loss

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

SIDES: dict[str, Any] = {
    "head": {"kind": "outer", "bound": 0.5},
    "body": {"kind": "outer", "targets": ["key"]},
}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Installs a distribution that registers the kind `outer` by its entry point, and one that is broken."""
    info = tmp_path / "site" / "foreign_adapters-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-adapters\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[splitfl.adapters]\nouter = tests.foreign.outer_adapter:OUTER\nbroken = tests.foreign.nothing:X\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    vars(ADAPTERS).pop("_plugins", None)
    yield
    vars(ADAPTERS).pop("_plugins", None)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv", rows=60)
    return tmp_path


def splitfl(*words: str | Path) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_it_is_planned_run_exported_evaluated_reported_listed_and_cited(place: Path) -> None:
    path = place / "toy.json"
    path.write_text(json.dumps(toy.table(place, adapter=SIDES)))
    assert not json.loads(splitfl("plan", path, "--json"))["excluded"]
    done = json.loads(splitfl("run", path, "--out", place / "runs", "--json"))
    measured = json.loads(splitfl("eval", done["folder"], "--json"))
    assert measured["eval_loss"] == pytest.approx(done["final"]["eval_loss"], rel=1e-5)
    report = (Path(done["folder"]) / "report.html").read_text()
    assert "Trained parameters: an outer product on both sides." in report
    assert json.loads(splitfl("list", "adapters", "--json"))["outer"] == (
        "an outer product; settings: bound, targets, layers_to_transform, modules_to_save"
    )
    assert OUTER.citation in splitfl("cite", path)
    held = json.loads((Path(done["folder"]) / "config.json").read_text())["adapter"]
    targets = {"targets": [], "layers_to_transform": [], "modules_to_save": []}
    assert held["head"] == {"kind": "outer", "bound": 0.5, **targets}
    assert "adapter.head.bound" in report
    other = json.loads(
        splitfl("run", path, "--set", "adapter.head.bound=2", "--out", place / "runs", "--json")
    )
    assert other["final"]["eval_loss"] != done["final"]["eval_loss"]


@pytest.mark.parametrize(
    ("word", "error"),
    [
        (
            "bond=2",
            r"unknown key 'adapter.head.bond'; did you mean 'bound'\? the adapter kind 'outer'",
        ),
        ("bound=0", r"\[adapter.head\] adapter bound must be above 0.0, got 0.0"),
        (
            "rank=2",
            r"'adapter.head.rank'; .* has the keys kind, bound, targets, .*; it is a key of lora,",
        ),
    ],
)
def test_a_setting_of_its_own_is_refused_by_name(word: str, error: str, place: Path) -> None:
    with pytest.raises(ConfigError, match=error):
        from_dict(toy.table(place, adapter=SIDES), [f"adapter.head.{word}"])


@pytest.mark.parametrize("method", quick(["sfl-v2", "spry", "decomfl"], "decomfl"))
def test_its_plan_is_the_runs_own_ledger(method: str, place: Path) -> None:
    tables: dict[str, Any] = {"method": {"name": method}, "model": {"name": str(place / "model")}}
    if method == "spry":
        tables["model"]["attention"] = "eager"
    one = Experiment.of(toy.config(place, adapter=SIDES, **tables))
    assert run_dry(one).ledger == play(one, place).ledger


@pytest.mark.slow
def test_its_pieces_equal_the_whole_and_their_flops_are_those_counted_by_torch(tmp_path: Path) -> None:
    kind, adapter = SEQUENCE_CLASSIFICATION, AdapterConfig(head=side("outer"), body=side("lora"))
    folder = tiny.save(tmp_path / "model", "bert", kind)
    pieces, whole = pieces_of(folder, kind, adapter), loaded(folder, kind, adapter)
    train([whole])
    train(pieces)
    assert loss(pieces, kind).equal(loss([whole], kind))
    assert_agreement("bert", kind, tmp_path / "counted", adapter)


def test_its_own_refusals_are_raised(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", "gpt2", "causal-lm")
    with pytest.raises(ConfigError, match=r"got 'outer': its layer multiplies by weights \(out, in\)"):
        targets(load_piece(folder, "causal-lm", 0), AdapterConfig(head=side("outer"), body=side("lora")), CUT)


def test_a_broken_one_is_refused_by_name_and_the_others_work(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"the plug-in 'broken' of foreign-adapters .* cannot be loaded"):
        Experiment.of(toy.config(place, adapter={"head": {"kind": "broken"}}))
    assert set(ADAPTERS) == {
        "lora",
        "dora",
        "vera",
        "ia3",
        "tinylora",
        "loha",
        "lokr",
        "oft",
        "full",
        "outer",
    }


def test_one_that_injects_other_parameters_than_it_names_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = replace(OUTER, factors={".outer_w": OUTER.factors[".outer_u"]})
    monkeypatch.setitem(vars(ADAPTERS)["_own"], "wrong", wrong)
    folder = tiny.save(tmp_path / "model", "bert", SEQUENCE_CLASSIFICATION)
    with pytest.raises(ConfigError, match=r"kind 'wrong' did not inject the parameter '.*\.outer_w'"):
        loaded(folder, SEQUENCE_CLASSIFICATION, AdapterConfig(head=side("wrong"), body=side("lora")))
