"""A method of another package, known by its entry point alone, is a method like those that come along."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from experiments.cli.main import main
from splitfl.methods.registry import METHODS
from tests.splitfl import toy

ROOT = Path(__file__).parents[2]
MODULE = '''
"""`sign-sfl`: as `sfl-v2`, with the signs of a gradient and its mean magnitude in its place."""

from dataclasses import dataclass, replace

from splitfl.config import above, group
from splitfl.core.messages import Gradient
from splitfl.methods import sfl_v2
from splitfl.methods.parts.split_pass import Backpropagation


@dataclass(frozen=True, kw_only=True)
class SignSettings:
    """Signs are multiplied by `sharpness`."""

    sharpness: float = 1.0
    label: str = ""
    backpropagation: Backpropagation = group(Backpropagation)

    def __post_init__(self):
        above("method.sharpness", self.sharpness, 0.0)


class SignServer:
    def __init__(self, whole, sharpness):
        self._whole = whole
        self._sharpness = sharpness
        self.commit, self.end_round, self.trained = whole.commit, whole.end_round, whole.trained
        self.state, self.restore = whole.state, whole.restore

    def compute(self, turn, message):
        outcome = self._whole.compute(turn, message)
        if not isinstance(outcome.reply, Gradient):
            return outcome
        grad = outcome.reply.grad
        signs = grad.sign() * grad.abs().mean() * self._sharpness
        return replace(outcome, reply=replace(outcome.reply, grad=signs))


SPEC = replace(
    sfl_v2.SPEC,
    about="as sfl-v2, with the signs of gradients",
    bibtex=("@misc{nobody2026sign,\\n  title = {Signs}\\n}",),
    server=lambda pieces, config: SignServer(
        sfl_v2.server(pieces, config), config.method.of(SignSettings).sharpness
    ),
    settings=SignSettings,
    shared=sfl_v2.SPEC.shared - {"federation.client_cuts"},
    local_update=None,
    refusals=(),
)


def __getattr__(name):
    return replace(SPEC, asynchronous=False)  # which lacks a reason
'''


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as pip leaves it: a module, and a dist-info that registers what is in it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "foreign_method.py").write_text(MODULE)
    info = folder / "foreign_method-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: foreign-method\nVersion: 1.0\n")
    points = "sign-sfl = foreign_method:SPEC\nhalf = foreign_method:half\n"
    (info / "entry_points.txt").write_text(f"[splitfl.methods]\n{points}")
    return folder


@pytest.fixture
def installed(package: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As if this process and its children had started with the package there."""
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(package), str(ROOT)]))
    vars(METHODS).pop("_plugins", None)
    yield
    vars(METHODS).pop("_plugins", None)


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv")
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(toy.table(tmp_path)))
    return path


def splitfl(*words: object) -> Result:
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.stderr
    return result


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_it_is_listed_cited_planned_and_run(preset: Path, tmp_path: Path) -> None:
    assert "as sfl-v2, with the signs of gradients" in splitfl("list", "methods").stdout
    mine = (preset, "--set", "method.name=sign-sfl")
    assert "nobody2026sign" in splitfl("cite", *mine).stdout
    planned = json.loads(splitfl("plan", *mine, "--json").stdout)["planned"]["sign-sfl"]
    done: dict[str, Any] = json.loads(splitfl("run", *mine, "--out", tmp_path, "--json").stdout)
    assert done["bytes_up"] == planned["bytes_up"]
    other: dict[str, Any] = json.loads(splitfl("run", preset, "--out", tmp_path, "--json").stdout)
    assert (done["bytes_up"], done["bytes_down"]) == (other["bytes_up"], other["bytes_down"])
    assert _losses(done) != _losses(other)
    assert "sign-sfl" in (Path(done["folder"]) / "report.html").read_text()


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_a_setting_of_its_own_is_read_from_a_file_and_set_and_shown(preset: Path, tmp_path: Path) -> None:
    """No file of the project knows the key; a text of digits set for it is a text."""
    mine = tmp_path / "mine.json"
    table = json.loads(preset.read_text())
    mine.write_text(json.dumps({**table, "method": {"name": "sign-sfl", "sharpness": 8, "micro_batch": 4}}))
    runs = {
        sharpness: json.loads(splitfl("run", mine, *words, "--out", tmp_path, "--json").stdout)
        for sharpness, words in ((8.0, ()), (2.0, ("--set", "method.sharpness=2", "--set", "method.label=7")))
    }
    for sharpness, done in runs.items():
        folder = Path(done["folder"])
        method = json.loads((folder / "config.json").read_text())["method"]
        assert method == {
            "name": "sign-sfl",
            "in_flight": 1,
            "server_batch": 1,
            "sharpness": sharpness,
            "label": "" if sharpness == 8.0 else "7",
            "checkpoint_head": False,
            "micro_batch": 4,
        }
        assert "method.sharpness" in (folder / "report.html").read_text()
    assert _losses(runs[8.0]) != _losses(runs[2.0])


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("word", "error"),
    [
        (
            "method.sharp=2",
            "unknown key 'method.sharp'; did you mean 'sharpness'? the method 'sign-sfl' has the keys name",
        ),
        ("method.sharpness=0", "[method] method.sharpness must be above 0.0, got 0.0"),
        ("method.sharpness=true", "method.sharpness must be of type float, got True"),
        (
            "method.name=sfl-v2",
            "'method.sharpness'; the method 'sfl-v2' has the keys name, in_flight, server_batch",
        ),
    ],
)
def test_a_setting_of_its_own_is_refused_by_name(preset: Path, word: str, error: str) -> None:
    words = ("--set", "method.name=sign-sfl", "--set", "method.sharpness=2", "--set", word)
    result = CliRunner().invoke(main, ["run", str(preset), *words])
    assert result.exit_code == 2
    assert error in " ".join(result.stderr.split())


def _losses(done: dict[str, Any]) -> list[float]:
    rows = map(json.loads, (Path(done["folder"]) / "metrics.jsonl").read_text().splitlines())
    return [row["loss"] for row in rows if row["event"] == "step"]


@pytest.mark.slow
@pytest.mark.usefixtures("installed")
def test_it_is_compared_with_others(preset: Path, tmp_path: Path) -> None:
    out = ("--out", tmp_path, "--seeds", 1, "--json")
    said = splitfl("compare", "--methods", "sign-sfl,fedlora", "--preset", preset, *out)
    labels = {row["label"] for row in json.loads(said.stdout)["standings"]}
    assert {"sign-sfl", "fedlora"} <= labels


@pytest.mark.usefixtures("installed")
def test_a_setting_that_it_does_not_have_is_refused(preset: Path) -> None:
    """Its spec has no settings for clients with cuts of their own, which sfl-v2's has."""
    cuts = ("--set", "federation.client_cuts=[1,2]", "--set", "partition.cut=1")
    result = CliRunner().invoke(main, ["run", str(preset), "--set", "method.name=sign-sfl", *cuts])
    assert result.exit_code == 2
    assert "'sign-sfl' does not read federation.client_cuts" in result.stderr


@pytest.mark.usefixtures("installed")
def test_one_that_says_too_little_is_refused_by_name_and_the_others_work(preset: Path) -> None:
    assert "sign-sfl" in splitfl("list", "methods").stdout
    result = CliRunner().invoke(main, ["run", str(preset), "--set", "method.name=half"])
    assert result.exit_code == 2
    assert "the plug-in 'half' of foreign-method (splitfl.methods) cannot be loaded" in result.stderr
    assert "MethodSpec.asynchronous must be True or the reason why not, got False" in result.stderr


@pytest.mark.slow
def test_it_passes_the_conformance_tests(package: Path) -> None:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "sign-sfl"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(package), str(ROOT)])}
    files = [f"tests/splitfl/methods/test_{name}.py" for name in ("conformance", "settings", "saved_tensors")]
    done = subprocess.run(
        [sys.executable, *words, *files],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(done.stdout.split(" passed")[0].split()[-1]) >= 12
