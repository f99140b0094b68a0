"""ROUGE of a model's answers is rouge-score's own figure for them."""

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

import splitfl
from splitfl.core.errors import ConfigError
from splitfl.data.answers import Answers
from splitfl.data.examples import Examples, gather
from splitfl.data.loader import tokenizer
from splitfl.data.text_kinds import Answered, Chat, ChatMessage
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.evaluation.greedy import continuations
from splitfl.evaluation.rouge import KINDS, rouge
from splitfl.models.load import load_piece
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load
from tests.splitfl import toy

PROMPTS = ("the server learns", "what each", "a link")
ANSWERS = (" what each client knows", " from hidden states", " and gradients that cross")
CHAT = (ChatMessage("user", "what"), ChatMessage("assistant", "the link"), ChatMessage("user", "each"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy.chat_model(tmp_path_factory.mktemp("rouge") / "model")


@pytest.fixture(scope="module")
def model(folder: Path) -> Any:
    """A model that knows all of these answers by heart."""
    found = load_piece(folder, "causal-lm", 0).requires_grad_(True).model
    texts = [*examples(ANSWERS).texts, Chat(messages=(*CHAT, ChatMessage("assistant", "the client")))]
    samples = gather(texts, None, [""] * len(texts))
    rows = Answers(samples, tokenizer(folder), loss_on="answers", template="plain", max_length=24)
    batch = rows.collated(rows.shortest_first())
    optimiser = torch.optim.AdamW(found.parameters(), lr=1e-2)
    for _ in range(60):
        found(**batch.inputs, labels=batch.labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    return found


def examples(answers: Sequence[str]) -> Examples:
    texts = [Answered(prompt=prompt, completion=said) for prompt, said in zip(PROMPTS, answers, strict=True)]
    return gather(texts, None, [""] * 3)


def test_prompts_of_different_lengths_are_continued_together(folder: Path, model: Any) -> None:
    encode = tokenizer(folder)
    prompts = [encode(prompt)["input_ids"] for prompt in PROMPTS]
    assert continuations(model, encode, prompts, 12) == [answer.strip() for answer in ANSWERS]


def test_answers_are_scored_by_rouge_score(folder: Path, model: Any) -> None:
    scorer_module = pytest.importorskip("rouge_score.rouge_scorer", reason="rouge-score is not installed")
    encode = tokenizer(folder)
    right = rouge(model, encode, examples(ANSWERS), template="plain", longest=12)
    assert right == {kind: pytest.approx(1.0) for kind in KINDS}
    others = ["knows each client", ANSWERS[1], "gradients cross a link"]
    scorer = scorer_module.RougeScorer(list(KINDS))
    scores = [scorer.score(wanted, text) for wanted, text in zip(others, ANSWERS, strict=True)]
    expected = {kind: sum(score[kind].fmeasure for score in scores) / 3 for kind in KINDS}
    found = rouge(model, encode, examples(others), template="plain", longest=12)
    assert found == {kind: pytest.approx(value) for kind, value in expected.items()}


def test_of_a_chat_the_last_answer_is_to_be_said(folder: Path, model: Any) -> None:
    pytest.importorskip("rouge_score", reason="rouge-score is not installed")
    chat = Chat(messages=(*CHAT, ChatMessage("assistant", "the client")))
    found = rouge(model, tokenizer(folder), gather([chat], None, [""]), template="auto", longest=30)
    assert found["rougeL"] == pytest.approx(1.0)


def test_a_missing_library_is_named_with_its_install_command(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    encode, model = tokenizer(folder), load_piece(folder, "causal-lm", 0).model
    with pytest.raises(
        ConfigError, match=r"ROUGE needs the library rouge-score: pip install 'splitfl\[rouge\]'"
    ):
        rouge(model, encode, examples(["a", "b", "c"]), template="plain", longest=12)


@pytest.mark.slow
def test_a_task_without_answers_is_refused(tmp_path: Path) -> None:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv")
    result = splitfl.run(toy.table(tmp_path), out=tmp_path)
    site = Experiment.of(load(result.folder / "config.json"))
    with pytest.raises(ConfigError, match="--rouge is for tasks 'sft' and 'seq2seq', whose samples have"):
        measure_adapter(site, result.folder / "adapter", with_rouge=True)
