"""Prompts and completions for an encoder-decoder: what is padded, cut off, and in the loss."""

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.batch import Batch
from splitfl.data.prompts import Prompts
from splitfl.data.task import load_task
from tests.splitfl import toy

ROWS = [{"prompt": toy.said(n, 2 + n % 5), "completion": toy.said(n + 1, 1 + n % 8)} for n in range(60)]


def rows_of(folder: Path, max_length: int = 16) -> tuple[Prompts, Any]:
    toy.answer_model(folder / "model")
    (folder / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    task = load_task(TaskConfig(name="seq2seq", data=str(folder / "data.jsonl")))
    encode = AutoTokenizer.from_pretrained(folder / "model")
    samples = task.train
    made = Prompts(samples, encode, template="auto", max_length=max_length, num_embeddings=61)
    return made, encode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Prompts, Any]:
    return rows_of(tmp_path_factory.mktemp("prompts"))


def test_prompt_and_completion_are_padded_apart(whole: tuple[Prompts, Any]) -> None:
    rows, _ = whole
    batch: Batch = rows.collated(rows.shortest_first())
    assert batch.shape == (len(rows), 8, 16)
    assert batch.inputs["attention_mask"][0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_the_loss_is_over_every_token_of_the_completion_and_its_end(whole: tuple[Prompts, Any]) -> None:
    rows, encode = whole
    batch = rows.collated(rows.shortest_first()[:3])
    completions = {row["prompt"]: row["completion"] for row in ROWS}
    for ids, labels in zip(batch.inputs["input_ids"].tolist(), batch.labels.tolist(), strict=True):
        learnt = [token for token in labels if token != -100]
        asked = encode.decode(ids, skip_special_tokens=True)
        assert encode.decode(learnt) == f"{completions[asked]} [SEP]"


def test_what_is_cut_off_is_counted(tmp_path: Path) -> None:
    rows, _ = rows_of(tmp_path, max_length=4)
    batch = rows.collated(rows.shortest_first())
    assert batch.shape == (len(rows), 4, 4)
    read = int(batch.inputs["attention_mask"].sum()) + int((batch.labels != -100).sum())
    assert rows.count.tokens - rows.count.truncated_tokens == read
    assert rows.count.learnt_tokens == int((batch.labels != -100).sum())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": "chat"}, "task.template must be 'auto', 'plain' or 'alpaca' for task 'seq2seq'"),
        (
            {"packing": "pack"},
            r"task.packing must be 'auto' or 'truncate' for task 'seq2seq', whose .* an answer",
        ),
        ({"loss_on": "all"}, "task.loss_on is not read by task 'seq2seq'"),
    ],
)
def test_a_setting_that_it_does_not_have_is_refused(changes: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_task(TaskConfig(name="seq2seq", data="x.jsonl", **changes))  # type: ignore[arg-type]


def test_a_chat_is_refused(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "the server"}]
    row = {"prompt": said, "completion": [{"role": "assistant", "content": "learns"}]}
    (tmp_path / "data.jsonl").write_text((json.dumps(row) + "\n") * 10)
    with pytest.raises(DataError, match="must be strings, got lists of messages"):
        load_task(TaskConfig(name="seq2seq", data=str(tmp_path / "data.jsonl")))
