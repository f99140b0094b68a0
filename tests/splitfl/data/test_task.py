import dataclasses
import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.examples import Examples
from splitfl.data.task import load_task
from splitfl.data.tasks import TASKS
from splitfl.models.families import KINDS
from splitfl.models.untrained import FOLDER
from tests.splitfl import shown
from tests.splitfl.data.reading.test_picture_files import pictures
from tests.splitfl.installed import installed, package

Write = Callable[[str, str | bytes], Path]

NEEDS_DATA = (
    "classification",
    "regression",
    "multi-label",
    "token-classification",
    "lm",
    "sft",
    "seq2seq",
    "sst2",
)


def _configured(name: str, write: Write) -> TaskConfig:
    """Settings with which each task of the table loads."""
    if name == "mnist":
        return TaskConfig(name=name, data=str(shown.data(write("a.txt", "").parent)), limit=50, eval_limit=10)
    if name == "image-folder":
        folder = pictures(write("a.txt", "").parent / "pictures", 120)
        return TaskConfig(name=name, data=str(folder), limit=50, eval_limit=5)
    if name == "e2e":
        for part, count in (("train", 60), ("test", 20)):
            path = write(
                f"{part}.txt", "".join(f"name : {part} {i}||this is {part} {i} .\n" for i in range(count))
            )
        return TaskConfig(name=name, data=str(path.parent), limit=50, eval_limit=10)
    if name == "corpus":
        folder = write("a.txt", "").parent / "texts"
        for part, count in (("train", 60), ("dev", 20)):
            (folder / part).mkdir(parents=True)
            for number in range(count):
                (folder / part / f"{number}.txt").write_text(f"this is {part} {number}\n")
        return TaskConfig(name=name, data=str(folder), limit=50, eval_limit=10)
    if name not in NEEDS_DATA:
        return TaskConfig(name=name, limit=50, eval_limit=20)
    rows = "text\tlabel\n" + "".join(f"sentence {i}\t{i % 2}\n" for i in range(200))
    if name == "token-classification":
        rows = rows.replace("text\tlabel", "tokens\ttags").replace("sentence ", "sentence-")
    if name in ("sft", "seq2seq"):
        rows = rows.replace("text\tlabel", "prompt\tcompletion")
    ignored = ("label",) if name == "lm" else ()
    data = str(write("a.tsv", rows))
    return TaskConfig(name=name, data=data, ignore_columns=ignored, limit=50, eval_limit=10)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] if "stdlib" in name else []) for name in TASKS]
)
def test_every_task_loads_and_keeps_its_limits(
    name: str, write: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if name == "corpus":
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = _configured(name, write)
    task = load_task(config, model_folder=FOLDER / "gpt2-bytes")
    assert task.name == name
    assert (len(task.train), len(task.held_out)) == (config.limit, config.eval_limit)
    assert task.kind in KINDS
    assert (task.kind in ("causal-lm", "seq2seq-lm")) == (task.num_labels is None)
    assert (not task.label_names) == (task.num_labels is None or name == "regression")
    if isinstance(task.train, Examples) and isinstance(task.held_out, Examples):
        assert not set(task.train.texts) & set(task.held_out.texts)
    assert task.source
    assert TASKS[name].about


FOREIGN = """
from splitfl.data.examples import gather, split_held_out
from splitfl.data.reading.corpus import Corpus
from splitfl.data.task_spec import TaskSpec

def corpus(config):
    rows = gather([f"row {n}" for n in range(100)], [n % 2 for n in range(100)], ["all"] * 100)
    train, held_out = split_held_out(rows)
    return Corpus(train=train, held_out=held_out, label_names=("even", "odd"))

PLUGIN = TaskSpec(about="even or odd", kind="sequence-classification", corpus=corpus, source="a loop")
"""


def test_a_task_of_another_package_is_loaded_by_its_name(tmp_path: Path) -> None:
    with installed(package(tmp_path, "splitfl.tasks", "parity", FOREIGN), TASKS):
        task = load_task(TaskConfig(name="parity", limit=20))
    assert (len(task.train), task.label_names, task.source) == (20, ("even", "odd"), "a loop")
    with pytest.raises(ConfigError, match=r"unknown task\.name 'parity'"):
        load_task(TaskConfig(name="parity"))


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"kind": "translation"}, "unknown TaskSpec.kind 'translation'"),
        ({"packing": "auto"}, "unknown TaskSpec.packing 'auto'"),
        ({"form": None}, "TaskSpec must have a form, a corpus or texts"),
    ],
)
def test_an_incomplete_task_is_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        dataclasses.replace(TASKS["lm"], **changed)


def test_listing_the_tasks_imports_neither_torch_nor_transformers() -> None:
    program = "import sys, splitfl.data.task; sys.exit(bool({'torch', 'transformers'} & set(sys.modules)))"
    path = os.pathsep.join(entry for entry in sys.path if entry)
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={"PYTHONPATH": path})


@pytest.mark.parametrize("name", [*NEEDS_DATA, "corpus"])
def test_a_task_without_its_data_is_refused(name: str) -> None:
    with pytest.raises(DataError, match=rf"task '{name}' needs data: a (text )?file, a folder .* --data"):
        load_task(TaskConfig(name=name), model_folder=FOLDER / "gpt2-bytes")


def test_an_unknown_task_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"unknown task.name 'stdlib-topic'; did you mean 'stdlib-topics'"):
        load_task(TaskConfig(name="stdlib-topic"))


def test_an_embedded_task_refuses_data() -> None:
    with pytest.raises(ConfigError, match=r"task.data must be empty for task 'stdlib-lm', got 'x.txt'"):
        load_task(TaskConfig(name="stdlib-lm", data="x.txt"))


@pytest.mark.parametrize("data", ["./nowhere", "/no/such/folder", "gone.tsv", "a/b/c/d"])
def test_data_that_are_not_there_are_one_sentence(data: str) -> None:
    with pytest.raises(
        DataError, match=rf"^there is no file or folder {data}; give an existing one, or hf:NAME$"
    ):
        load_task(TaskConfig(name="lm", data=data))


@pytest.mark.skipif(
    importlib.util.find_spec("datasets") is not None, reason="the library datasets is installed"
)
@pytest.mark.parametrize("data", ["imdb", "hf:imdb", "hf:stanfordnlp/sst2", "hf:a/b/c"])
def test_a_data_set_by_name_without_the_library_is_refused_with_the_package_to_install(data: str) -> None:
    name = data.removeprefix("hf:")
    with pytest.raises(DataError, match=rf"data set '{name}' needs the library datasets: pip install"):
        load_task(TaskConfig(name="classification", data=data))


def test_a_data_set_by_name_is_read_like_a_file(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("datasets", reason="the library datasets is not installed")
    folder = write("a", b"").parent / "owner" / "name"
    folder.mkdir(parents=True)
    monkeypatch.chdir(folder.parent.parent)
    (folder / "train.csv").write_text("sentence,label\na good one,1\na bad one,0\n")
    (folder / "validation.csv").write_text("sentence,label\nanother,1\n")
    task = load_task(TaskConfig(name="classification", data="hf:owner/name"))
    assert (len(task.train), len(task.held_out), task.label_names) == (2, 1, ("0", "1"))


def test_sst2_has_its_own_split() -> None:
    folder = os.environ.get("SPLITFL_DATA")
    if folder is None:
        pytest.skip("SPLITFL_DATA does not name a folder with SST-2")
    task = load_task(TaskConfig(name="sst2", data=folder))
    assert (len(task.train), len(task.held_out), task.label_names) == (6920, 872, ("0", "1"))
