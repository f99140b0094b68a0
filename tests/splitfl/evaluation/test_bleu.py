"""BLEU of a model that says what it was to say is 100, and sacrebleu's own number whatever it says."""

from pathlib import Path

import pytest
import torch

from splitfl.data.examples import gather
from splitfl.data.loader import tokenizer
from splitfl.data.reading.e2e import END
from splitfl.evaluation.bleu import bleu
from splitfl.models.checkpoint.source import resolve
from splitfl.models.load import load_piece

sacrebleu = pytest.importorskip("sacrebleu", reason="needs the library sacrebleu")


@pytest.fixture(scope="module")
def folder() -> Path:
    return resolve("gpt2-bytes")


@pytest.mark.slow
def test_a_model_that_has_learnt_a_text_by_heart_has_all_of_it(folder: Path) -> None:
    torch.manual_seed(0)
    encode, model = tokenizer(folder), load_piece(folder, "causal-lm", 0).requires_grad_(True).model
    texts = [f"a||one two three four{END}", f"bb||five six seven eight{END}"]
    given = encode(texts, return_tensors="pt", padding=True)
    labels = given["input_ids"].masked_fill(given["attention_mask"] == 0, -100)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        model(**given, labels=labels).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    held_out = gather([*texts, f"a||something else altogether{END}"], None, [""] * 3)
    assert bleu(model, encode, held_out, longest=40) == pytest.approx(100.0)
    other = gather([f"a||one two three ten{END}", f"bb||five six seven eight{END}"], None, [""] * 2)
    said = ["one two three four", "five six seven eight"]
    expected = sacrebleu.corpus_bleu(said, [["one two three ten", "five six seven eight"]]).score
    assert bleu(model, encode, other, longest=40) == pytest.approx(expected)


def test_a_model_that_knows_nothing_says_nothing_right(folder: Path) -> None:
    model = load_piece(folder, "causal-lm", 0).model
    assert bleu(model, tokenizer(folder), gather([f"a||one two three four{END}"], None, [""]), longest=12) < 1
