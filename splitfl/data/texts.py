"""Texts, and pairs of texts, as samples of tokens: one each, or for language models cut and packed."""

# B batch, T tokens

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from splitfl.data.batch import Batch
from splitfl.data.examples import Examples, Ints
from splitfl.data.loader import NOTHING_TO_PREDICT, TokenCount, check_embedded, padded_width
from splitfl.data.text_kinds import Pair, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Texts:
    """Examples as samples of at most `max_length` tokens.

    `packing` is `truncate` (a sample is the beginning of a text), `chunk` (a long text is several samples)
    or `pack` (one text follows another, and is cut anywhere). A language model's text ends with the
    tokenizer's end token, where it has one. Left out are samples with no token, and for a language
    model those with one: there is nothing to predict. Where the model `reads_types` (`token_type_ids`),
    tokens of the second text of a pair are of another type. Raises ConfigError for a token that a model of
    `num_embeddings`, if that is given, does not have.
    """

    def __init__(
        self,
        examples: Examples,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        kind: str,
        max_length: int,
        packing: str = "truncate",
        num_embeddings: int | None = None,
        reads_types: bool = False,
    ) -> None:
        is_lm = kind == "causal-lm"
        assert is_lm == (examples.labels is None), "the kind and the labels disagree"
        assert tokenizer.pad_token_id is not None
        texts = _encoded(examples.texts, tokenizer)
        if is_lm:
            texts = [_ended(ids, tokenizer.eos_token_id) for ids in texts]
        if num_embeddings is not None:
            check_embedded(texts, tokenizer, num_embeddings)
        tokens, self.count = _fitted(examples.texts, texts, tokenizer, max_length, packing, is_lm=is_lm)
        kept = [i for i, ids in enumerate(tokens) if len(ids) > is_lm]
        self.skipped = len(tokens) - len(kept)
        self._labels = None if examples.labels is None else examples.labels[kept]
        self._tokens = [tokens[i] for i in kept]
        self._types = (
            _types([examples.texts[i] for i in kept], tokenizer, max_length) if reads_types else None
        )
        self._pad_id: int = tokenizer.pad_token_id
        self._max_length = max_length

    def __len__(self) -> int:
        return len(self._tokens)

    def shortest_first(self) -> Ints:
        """See Rows."""
        return np.argsort([len(ids) for ids in self._tokens], kind="stable")

    def collated(self, indices: Ints) -> Batch:
        """Padded on the right to the longest, rounded up to a multiple of 8 within `max_length`."""
        rows = [self._tokens[i] for i in indices]
        longest = max(len(row) for row in rows)
        width = padded_width(longest, self._max_length)
        ids_BT = torch.full((len(rows), width), self._pad_id, dtype=torch.int64)
        mask_BT = torch.zeros((len(rows), width), dtype=torch.int64)
        for row, ids in enumerate(rows):
            ids_BT[row, : len(ids)] = torch.from_numpy(ids)
            mask_BT[row, : len(ids)] = 1
        classes = self._labels
        inputs = {"input_ids": ids_BT, "attention_mask": mask_BT}
        if self._types is not None:
            types_BT = inputs["token_type_ids"] = torch.zeros_like(ids_BT)
            for row, index in enumerate(indices):
                types_BT[row, : len(self._types[index])] = torch.from_numpy(self._types[index])
        return Batch(
            ids_B=torch.tensor(indices, dtype=torch.int64),
            inputs=inputs,
            labels=ids_BT.masked_fill(mask_BT == 0, NOTHING_TO_PREDICT)
            if classes is None
            else torch.from_numpy(classes[indices]),
        )


def _encoded(
    texts: Sequence[Text], tokenizer: "PreTrainedTokenizerBase", max_length: int | None = None
) -> list[Ints]:
    if not texts:
        return []
    encoded = tokenizer(
        *_parts(texts),
        truncation=max_length is not None,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # about texts longer than the model's positions, which are cut below
    )
    return [np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]]


def _types(texts: Sequence[Text], tokenizer: "PreTrainedTokenizerBase", max_length: int) -> list[Ints] | None:
    """Each token's type, where there are pairs of texts; without, all are of type 0, as without types."""
    if not any(isinstance(text, Pair) for text in texts):
        return None
    encoded = tokenizer(
        *_parts(texts), truncation=True, max_length=max_length, return_token_type_ids=True, verbose=False
    )
    return [np.array(types, dtype=np.int64) for types in encoded["token_type_ids"]]


def _parts(texts: Sequence[Text]) -> tuple[list[str], ...]:
    """The texts, or the first and the second ones of pairs."""
    if not isinstance(texts[0], Pair):
        return ([str(text) for text in texts],)
    pairs = [text for text in texts if isinstance(text, Pair)]
    assert len(pairs) == len(texts), "the rows of a file have one text each, or all have two"
    return [pair.first for pair in pairs], [pair.second for pair in pairs]


def _ended(ids: Ints, end: int | None) -> Ints:
    """A text's tokens with the end token, unless that is there."""
    return ids if end is None or (len(ids) and ids[-1] == end) else np.append(ids, end)


def _fitted(
    texts: Sequence[Text],
    tokens: list[Ints],
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    packing: str,
    *,
    is_lm: bool,
) -> tuple[list[Ints], TokenCount]:
    """Samples of at most `max_length` tokens, and what of the texts is not in them."""
    total = sum(map(len, tokens))
    if packing == "pack":
        tokens = _cut(np.concatenate([np.empty(0, dtype=np.int64), *tokens]), max_length)
    elif packing == "chunk":
        tokens = [piece for ids in tokens for piece in _cut(ids, max_length)]
    long = [i for i, ids in enumerate(tokens) if len(ids) > max_length]
    if is_lm:
        shortened = [tokens[i][:max_length] for i in long]
    else:  # by the tokenizer, which leaves the special token at the end where a classifier may look for it
        shortened = _encoded([texts[i] for i in long], tokenizer, max_length)
    for i, ids in zip(long, shortened, strict=True):
        tokens[i] = ids
    count = TokenCount(
        texts=len(texts),
        tokens=total,
        truncated_texts=len(long),
        truncated_tokens=total - sum(map(len, tokens)),
    )
    return tokens, count


def _cut(ids: Ints, max_length: int) -> list[Ints]:
    """Pieces of this length; the last may be shorter."""
    return [ids[start : start + max_length] for start in range(0, len(ids), max_length)]
