"""The F1 of named entities: spans of words with tags of the IOB2 scheme (B-PER, I-PER, O; or B, I, O)."""

from collections.abc import Iterable, Sequence

Span = tuple[str, int, int]
"""The type of an entity, its first word, and the word after its last."""


def is_iob(names: Iterable[str]) -> bool:
    """Whether these classes are tags of the scheme: `O`, and `B` or `I`, each with a type or without."""
    tags = set(names)
    return "O" in tags and len(tags) > 1 and all(tag.partition("-")[0] in ("B", "I") for tag in tags - {"O"})


def spans(tags: Sequence[str]) -> set[Span]:
    """The entities of a sentence.

    As in the evaluation of CoNLL-2000 (Tjong Kim Sang and Buchholz) an I that continues no entity of its type
    begins one.
    """
    found, open_kind, start = set[Span](), None, 0
    for at, tag in enumerate([*tags, "O"]):
        prefix, _, kind = tag.partition("-")
        if open_kind is not None and (prefix != "I" or kind != open_kind):
            found.add((open_kind, start, at))
            open_kind = None
        if open_kind is None and prefix != "O":
            open_kind, start = kind, at
    return found


def entity_f1(pairs: Iterable[tuple[Sequence[str], Sequence[str]]]) -> float:
    """Micro F1 of exact spans with their types over sentences of right and predicted tags; 0 without any."""
    right = said = both = 0
    for labels, predicted in pairs:
        of_labels, of_predicted = spans(labels), spans(predicted)
        right, said = right + len(of_labels), said + len(of_predicted)
        both += len(of_labels & of_predicted)
    return 2 * both / (right + said) if right + said else 0.0
