"""Words with a class each: from rows to labels on tokens."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers.processors import TemplateProcessing

import splitfl
from splitfl.config import TaskConfig
from splitfl.core.errors import ConfigError, DataError
from splitfl.data.examples import gather
from splitfl.data.loader import tokenizer
from splitfl.data.reading.forms import TAGGED
from splitfl.data.reading.rows import Tally, read_rows
from splitfl.data.reading.tagged import TaggedTexts
from splitfl.data.text_kinds import Tagged
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict, load
from tests.splitfl import tiny, toy
from tests.splitfl.driver import play
from tests.splitfl.methods.plain import Plain

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

Write = Callable[[str, str | bytes], Path]
NAMES = ("B", "I", "O")


def model(folder: Path, model_type: str = "bert") -> Path:
    """A tiny encoder whose tokenizer puts a special token before and after a sentence."""
    toy.model(folder, model_type, "token-classification", is_base=True)
    encode = tokenizer(folder)
    encode.add_special_tokens({"cls_token": "[CLS]", "sep_token": "[SEP]"})
    special = [
        ("[CLS]", encode.convert_tokens_to_ids("[CLS]")),
        ("[SEP]", encode.convert_tokens_to_ids("[SEP]")),
    ]
    encode._tokenizer.post_processor = TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=special)  # type: ignore[attr-defined]
    encode.save_pretrained(folder)
    return folder


def sentences(path: Path, rows: int = 60) -> Path:
    lines = []
    for row in range(rows):
        words = toy.said(row, 2 + row % 6).split()
        tags = [NAMES[(toy.WORDS.index(word) + row % 2) % 3] for word in words]
        lines.append(json.dumps({"tokens": words, "ner_tags": tags}))
    path.write_text("\n".join(lines) + "\n")
    return path


def table(folder: Path, **tables: Any) -> dict[str, Any]:
    task = {"name": "token-classification", "data": str(sentences(folder / "data.jsonl"))}
    return toy.table(
        folder, task=task, federation={"partition": "iid", **tables.pop("federation", {})}, **tables
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tagged")
    model(folder / "model")
    return folder


def test_the_first_token_of_a_word_has_its_class(place: Path) -> None:
    """The tokenizer of whole words parts at the hyphen, so that one word is three tokens."""
    examples = gather([Tagged(("the", "link-server", "learns"), ("O", "B", "I"))], None, [""])
    rows = TaggedTexts(
        examples, tokenizer(place / "model"), label_names=NAMES, max_length=16, num_embeddings=tiny.VOCABULARY
    )
    batch = rows.collated(np.arange(1))
    assert batch.labels[0].tolist() == [-100, 2, 0, -100, -100, 1, -100, -100]
    assert (rows.count.tokens, rows.count.learnt_tokens) == (7, 3)
    short = TaggedTexts(
        examples, tokenizer(place / "model"), label_names=NAMES, max_length=4, num_embeddings=tiny.VOCABULARY
    )
    assert short.collated(np.arange(1)).labels[0].tolist() == [-100, 2, 0, -100]
    assert (short.count.truncated_texts, short.count.truncated_tokens) == (1, 3)


def test_a_tokenizer_without_a_first_special_token_is_refused(tmp_path: Path) -> None:
    folder = toy.model(tmp_path, "bert")
    examples = gather([Tagged(("the",), ("O",))], None, [""])
    with pytest.raises(ConfigError, match="need one that begins with a special token"):
        TaggedTexts(examples, tokenizer(folder), label_names=NAMES, max_length=4, num_embeddings=61)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", '{"tokens": ["a", "b"], "ner_tags": ["O", "B"]}\n'),
        ("a.jsonl", '{"words": ["a", "b"], "tags": ["O", "B"]}\n'),
        ("a.tsv", "tokens\ttags\na b\tO B\n"),
        ("a.tsv", 'tokens\ttags\n["a", "b"]\t["O", "B"]\n'),
    ],
)
def test_words_and_tags_are_lists_or_stand_between_blanks(name: str, content: str, write: Write) -> None:
    (row,) = read_rows(write(name, content), TaskConfig(), TAGGED, Tally("refuse")).rows
    assert row.text == Tagged(("a", "b"), ("O", "B"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"tokens": ["a"], "tags": ["O", "B"]}, "it has 1 words and 2 tags"),
        ({"tokens": [], "tags": []}, "the words must be a list of words, got []"),
        (
            {"tokens": "['a']", "tags": "['O']"},
            "a list in a cell must be JSON, with double quotes; got ['a']",
        ),
        ({"tokens": ["a"], "tags": [""]}, "every word must have a tag that names a class, got ''"),
        ({"tokens": ["a", "b"], "tags": [0, -100]}, "a tag that names a class, got '-100'"),
        ({"tokens": ["a"], "tags": [0.5]}, "the tags must be a list of words, got [0.5]"),
        ({"tokens": ["a"], "tags": ["O"], "ner_tags": ["O"]}, "say in task.tags_column which is the tags"),
    ],
)
def test_a_row_of_another_shape_is_refused(row: dict[str, Any], message: str, write: Write) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        read_rows(write("a.jsonl", json.dumps(row)), TaskConfig(), TAGGED, Tally("refuse"))


@pytest.mark.slow
@pytest.mark.parametrize("micro_batch", [0, 3])
def test_split_finetuning_is_plain_finetuning(micro_batch: int, place: Path, tmp_path: Path) -> None:
    federation = {"clients": 1, "aggregator": "mean"}
    method = {"name": "ushape", "micro_batch": micro_batch}
    cut = {"cut": 1, "tail_blocks": 1}
    site = Experiment.of(from_dict(table(place, federation=federation, method=method, partition=cut)))
    plain, batches = Plain(site), site.batches(0)
    played = play(site, tmp_path)
    assert played.losses == pytest.approx([plain.step(batches.batch(step)) for step in range(6)], abs=1e-5)
    if not micro_batch:
        assert plain.differs(played.trained) == []


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_method_learns_classes_of_tokens(method: str, place: Path, tmp_path: Path) -> None:
    played = play(Experiment.of(from_dict(table(place, method={"name": method}))), tmp_path)
    assert len(played.ends) == 2
    assert np.isfinite(played.losses).all()


def test_a_run_and_stock_peft_measure_the_same(place: Path, tmp_path: Path) -> None:
    result = splitfl.run(table(place), out=tmp_path)
    site = Experiment.of(load(result.folder / "config.json"))
    assert site.task.label_names == NAMES
    again = measure_adapter(site, result.folder / "adapter")
    assert {name: result.summary.final[name] for name in again} == pytest.approx(again, abs=1e-5)
    assert {"accuracy", "micro_f1", "entity_f1", "f1"} < set(again)
    assert any("3 classes, numbered by task.labels: B (" in line for line in site.description().lines)


def test_a_decoder_is_refused_by_name(tmp_path: Path) -> None:
    toy.model(tmp_path / "model", "llama", "causal-lm")
    with pytest.raises(ConfigError, match="a llama model does not support token-classification"):
        Experiment.of(from_dict(table(tmp_path)))


def test_lost_tokens_cannot_be_masked(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"erasure.activation must be .* for token classification"):
        Experiment.of(from_dict(table(place, erasure={"activation": "mask"})))
