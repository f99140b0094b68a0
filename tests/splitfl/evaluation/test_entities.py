"""Entities are found and counted as by the evaluation of CoNLL-2000, and as by seqeval."""

import random

import pytest

from splitfl.evaluation.entities import entity_f1, is_iob, spans

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


@pytest.mark.parametrize(
    ("tags", "found"),
    [
        ("B-PER I-PER O B-LOC", {("PER", 0, 2), ("LOC", 3, 4)}),
        ("B-PER B-PER I-PER", {("PER", 0, 1), ("PER", 1, 3)}),
        ("I-PER I-LOC I-LOC", {("PER", 0, 1), ("LOC", 1, 3)}),
        ("B I O I", {("", 0, 2), ("", 3, 4)}),
        ("O O", set()),
        ("", set()),
    ],
)
def test_an_entity_ends_with_its_type_or_the_sentence(tags: str, found: set[tuple[str, int, int]]) -> None:
    assert spans(tags.split()) == found


def test_only_exact_spans_of_the_right_type_count() -> None:
    labels = ["B-PER", "I-PER", "O", "B-LOC"]
    assert entity_f1([(labels, labels)]) == 1.0
    assert entity_f1([(labels, ["B-PER", "O", "O", "B-LOC"])]) == 0.5
    assert entity_f1([(labels, ["O"] * 4)]) == 0.0
    assert entity_f1([(["O"], ["O"])]) == 0.0


def test_tags_of_another_scheme_have_no_entities() -> None:
    assert is_iob(TAGS)
    assert not is_iob(("O", "noun", "verb"))
    assert not is_iob(("B-PER", "I-PER"))
    assert not is_iob(("O",))


def test_random_sentences_have_the_f1_of_seqeval() -> None:
    metrics = pytest.importorskip("seqeval.metrics", reason="seqeval is not installed")
    chance = random.Random(3)
    for _ in range(50):
        lengths = [chance.randrange(1, 9) for _ in range(5)]
        labels, predicted = ([chance.choices(TAGS, k=length) for length in lengths] for _ in range(2))
        assert entity_f1(zip(labels, predicted, strict=True)) == pytest.approx(
            metrics.f1_score(labels, predicted, zero_division=0)
        )
