"""Raw examples before they are tokenised, named and ordered by what they say.

Names, order and split all come from a hash of the text, so that shuffling a file, or
adding a line to it, moves no other example from the training part to the held-out one.
"""

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from splitfl.data.text_kinds import Text

Ints = npt.NDArray[np.int64]
Labels = npt.NDArray[np.int64] | npt.NDArray[np.float32]
"""(N,) int64 of classes, (N,) float32 of numbers, or (N, C) float32 that are 1 for each class of a sample."""

HELD_OUT_ONE_IN = 10
"""One example in this number is held out where the data do not say which."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Examples:
    """Texts with, for each, a unique `key` >= 0, a label (or None) and the group that would own it."""

    texts: tuple[Text, ...]
    labels: Labels | None
    groups: tuple[str, ...]
    keys: Ints

    def __len__(self) -> int:
        return len(self.texts)

    def take(self, indices: Ints) -> "Examples":
        """Those at these indices, in this order."""
        return Examples(
            texts=tuple(self.texts[i] for i in indices),
            labels=None if self.labels is None else self.labels[indices],
            groups=tuple(self.groups[i] for i in indices),
            keys=self.keys[indices],
        )

    def first(self, limit: int) -> "Examples":
        """The first `limit` of them, an unbiased choice since they stand in order of their keys; 0: all."""
        return self if limit == 0 else self.take(np.arange(min(limit, len(self))))


def gather(texts: Sequence[Text], labels: Sequence[int] | Labels | None, groups: Sequence[str]) -> Examples:
    """These as Examples, in order of their keys.

    A text that occurs again stays: its key is a hash of the text and of how often it
    came before, so keys are unique and the first one's does not depend on the others.
    """
    seen: Counter[Text] = Counter()
    keys = np.empty(len(texts), dtype=np.int64)
    for i, text in enumerate(texts):
        keys[i] = text_hash(text, seen[text])
        seen[text] += 1
    assert len(np.unique(keys)) == len(keys), "two texts share a 63-bit hash"
    unordered = Examples(
        texts=tuple(texts),
        labels=None if labels is None else np.asarray(labels),
        groups=tuple(groups),
        keys=keys,
    )
    return unordered.take(np.argsort(keys))


def split_held_out(examples: Examples) -> tuple[Examples, Examples]:
    """The training part and the held-out part, told apart by the hash of the text alone.

    Copies of one text fall on the same side.
    """
    held_out = np.array([text_hash(text) % HELD_OUT_ONE_IN == 0 for text in examples.texts], dtype=bool)
    return examples.take(np.flatnonzero(~held_out)), examples.take(np.flatnonzero(held_out))


def text_hash(text: Text, occurrence: int = 0) -> int:
    """63 bits of BLAKE2b, so that it fits into a signed integer and is never negative."""
    salt = occurrence.to_bytes(8, "little")
    return (
        int.from_bytes(hashlib.blake2b(str(text).encode(), digest_size=8, salt=salt).digest(), "little") >> 1
    )
