"""Folders that `save_to_disk` of the library datasets has written."""

from pathlib import Path
from typing import Any

import pytest

from splitfl.config import TaskConfig
from splitfl.core.errors import DataError
from splitfl.data.task import load_task
from splitfl.data.text_kinds import Chat, ChatMessage, Tagged

datasets: Any = pytest.importorskip(
    "datasets", reason="datasets is not installed: pip install 'splitfl[data]'"
)

TURNS = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


def test_chats_of_a_saved_data_set_are_read(tmp_path: Path) -> None:
    rows = [
        {"messages": [{**turn, "content": f"{turn['content']} {n}"} for turn in TURNS]} for n in range(30)
    ]
    datasets.Dataset.from_list(rows).save_to_disk(tmp_path / "saved")
    task = load_task(TaskConfig(name="sft", data=str(tmp_path / "saved")))
    texts = {*task.train.texts, *task.held_out.texts}  # type: ignore[union-attr]
    assert texts == {
        Chat(messages=(ChatMessage("user", f"a {n}"), ChatMessage("assistant", f"b {n}"))) for n in range(30)
    }
    assert task.corpus.sources[0].startswith(f"{tmp_path / 'saved'} train: 30 rows, messages from column")


def test_tags_have_the_names_that_the_data_set_gives_them(tmp_path: Path) -> None:
    names = ["O", "B-PER", "I-PER"]
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=names)),
        }
    )
    part = datasets.Dataset.from_list([{"tokens": ["a", "b"], "ner_tags": [1, 2]}], features=features)
    datasets.DatasetDict({"train": part, "validation": part}).save_to_disk(tmp_path / "saved")
    task = load_task(TaskConfig(name="token-classification", data=str(tmp_path / "saved")))
    assert task.label_names == tuple(names)
    assert task.train.texts == (Tagged(("a", "b"), ("B-PER", "I-PER")),)  # type: ignore[union-attr]


def test_a_tag_without_a_name_is_refused(tmp_path: Path) -> None:
    features = datasets.Features(
        {
            "tokens": datasets.List(datasets.Value("string")),
            "ner_tags": datasets.List(datasets.ClassLabel(names=["O", "B"])),
        }
    )
    part = datasets.Dataset.from_list([{"tokens": ["a", "b"], "ner_tags": [1, -1]}], features=features)
    part.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="row 1: every word must have a tag that names a class, got ''"):
        load_task(TaskConfig(name="token-classification", data=str(tmp_path / "saved")))


def test_a_damaged_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot read the data set in"):
        load_task(TaskConfig(name="sft", data=str(tmp_path)))
