"""Sentences whose words have a class each, as tokens: a word's class belongs to its first token."""

# B batch, T tokens

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from splitfl.core.errors import ConfigError
from splitfl.data.batch import Batch
from splitfl.data.examples import Examples, Ints
from splitfl.data.loader import NOTHING_TO_PREDICT, TokenCount, check_embedded, padded, padded_width
from splitfl.data.text_kinds import Tagged

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class TaggedTexts:
    """Sentences of at most `max_length` tokens with a label (T,) each, -100 but on the first token of a word.

    See `Rows`. A sentence without a labelled token within `max_length` is left out. Raises ConfigError for a
    tokenizer that does not say which token is of which word, or that begins a sentence with one of these, and
    for a token that a model of `num_embeddings` does not have.
    """

    def __init__(
        self,
        examples: Examples,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        label_names: Sequence[str],
        max_length: int,
        num_embeddings: int,
    ) -> None:
        assert tokenizer.pad_token_id is not None
        number = {name: at for at, name in enumerate(label_names)}
        sentences = [text for text in examples.texts if isinstance(text, Tagged)]
        whole = _encoded(sentences, tokenizer, None)
        short = _encoded(sentences, tokenizer, max_length)
        check_embedded([ids for ids, _ in whole], tokenizer, num_embeddings)
        labels = [
            _labels(words, [number[tag] for tag in sentence.tags])
            for sentence, (_, words) in zip(sentences, short, strict=True)
        ]
        if any(len(own) and own[0] != NOTHING_TO_PREDICT for own in labels):
            raise ConfigError(
                f"the tokenizer in {tokenizer.name_or_path} begins a sentence with a word's token; classes "
                "of tokens need one that begins with a special token, as BERT's does"
            )
        kept = [at for at, own in enumerate(labels) if (own != NOTHING_TO_PREDICT).any()]
        self.skipped = len(labels) - len(kept)
        self._ids, self._labels = [short[at][0] for at in kept], [labels[at] for at in kept]
        self._pad_id: int = tokenizer.pad_token_id
        self._max_length = max_length
        self.count = _counted([len(ids) for ids, _ in whole], [len(ids) for ids, _ in short], self._labels)

    def __len__(self) -> int:
        return len(self._ids)

    def shortest_first(self) -> Ints:
        """See Rows."""
        return np.argsort([len(ids) for ids in self._ids], kind="stable")

    def collated(self, indices: Ints) -> Batch:
        """Padded on the right as texts are."""
        rows = [self._ids[index] for index in indices]
        width = padded_width(max(map(len, rows)), self._max_length)
        ones = [np.ones_like(row) for row in rows]
        return Batch(
            ids_B=torch.tensor(indices, dtype=torch.int64),
            inputs={"input_ids": padded(rows, width, self._pad_id), "attention_mask": padded(ones, width, 0)},
            labels=padded([self._labels[index] for index in indices], width, NOTHING_TO_PREDICT),
        )


def _encoded(
    sentences: Sequence[Tagged], tokenizer: "PreTrainedTokenizerBase", max_length: int | None
) -> list[tuple[Ints, list[int | None]]]:
    """The tokens of each sentence, and the number of the word that each is of."""
    if not sentences:
        return []
    try:
        found = tokenizer(
            [list(sentence.words) for sentence in sentences],
            is_split_into_words=True,
            truncation=max_length is not None,
            max_length=max_length,
            verbose=False,
        )
        words = [found.word_ids(at) for at in range(len(sentences))]
    except (ValueError, AssertionError) as error:
        raise ConfigError(
            f"the tokenizer in {tokenizer.name_or_path} cannot say which token is of which word: {error}"
        ) from None
    return [(np.array(ids, dtype=np.int64), own) for ids, own in zip(found["input_ids"], words, strict=True)]


def _labels(words: Sequence[int | None], tags: Sequence[int]) -> Ints:
    """Each word's class on its first token."""
    before = [None, *words[:-1]]
    firsts = [word is not None and word != last for word, last in zip(words, before, strict=True)]
    return np.array(
        [
            tags[word] if is_first and word is not None else NOTHING_TO_PREDICT
            for word, is_first in zip(words, firsts, strict=True)
        ],
        dtype=np.int64,
    )


def _counted(whole: Sequence[int], short: Sequence[int], labels: Sequence[Ints]) -> TokenCount:
    return TokenCount(
        texts=len(whole),
        tokens=sum(whole),
        truncated_texts=sum(one > other for one, other in zip(whole, short, strict=True)),
        truncated_tokens=sum(whole) - sum(short),
        learnt_tokens=int(sum((own != NOTHING_TO_PREDICT).sum() for own in labels)),
        unlearnt_texts=len(whole) - len(labels),
    )
