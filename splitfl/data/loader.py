"""Texts into tokens, and tokens into batches that anyone can draw again from seed, client and step."""

# B batch, T tokens

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from channel.core.rng import stream
from splitfl.core.errors import ConfigError, DataError, ModelMissing
from splitfl.data.batch import Batch
from splitfl.data.examples import Examples, Ints

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

log = logging.getLogger(__name__)

PAD_TO_MULTIPLE_OF = 8
NOTHING_TO_PREDICT = -100
"""Labels that torch's cross entropy leaves out."""


def tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """The tokenizer in a local folder, padding on the right, with a token to pad with.

    A folder with vocab.json and merges.txt alone is GPT-2's byte-pair encoding. Raises
    ModelMissing where there is no tokenizer, ConfigError where there is nothing to pad with.
    """
    # Unless the user has chosen: several processes share these cores, and the library's
    # own threads would make it complain at every fork after the first use.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from transformers import AutoTokenizer
    from transformers import __version__ as transformers_version

    chosen = {"tokenizer_type": "gpt2"} if _is_bare_byte_pairs(folder) else {}
    try:
        found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, padding_side="right", truncation_side="right", **chosen
        )
    except Exception as error:  # of any kind: tokenizers has none of its own for what it cannot read
        if (folder / "tokenizer.json").exists():
            said = " ".join(str(error).split())
            raise ModelMissing(
                f"the tokenizer in {folder} cannot be read; tokenizer.json may be damaged, or of a newer "
                f"library than that of transformers {transformers_version}: {type(error).__name__}: {said}"
            ) from None
        log.debug("no tokenizer in %s: %s", folder, error)
        raise ModelMissing(
            f"no tokenizer in {folder}; it needs a tokenizer.json, or vocab.json and merges.txt"
        ) from None
    if found.pad_token is None:
        if found.eos_token is None:
            raise ConfigError(f"the tokenizer in {folder} has neither a pad token nor an end token")
        found.pad_token = found.eos_token
        log.info("the tokenizer in %s has no pad token; its end token %r pads", folder, found.eos_token)
    return found


def _is_bare_byte_pairs(folder: Path) -> bool:
    says_its_kind = ("tokenizer.json", "tokenizer_config.json", "config.json")
    return (
        (folder / "vocab.json").exists()
        and (folder / "merges.txt").exists()
        and not any((folder / name).exists() for name in says_its_kind)
    )


class Rows(Protocol):
    """What batches are made of: one client's samples, of whatever kind."""

    skipped: int

    def __len__(self) -> int:
        """How many samples there are."""

    def collated(self, indices: Ints) -> Batch:
        """Those at these indices as a batch."""

    def shortest_first(self) -> Ints:
        """All indices, so that neighbours need little padding."""


class Batches:
    """The batches of one client's samples: each sample exactly once an epoch.

    The order of an epoch is a permutation named by seed, client and epoch, so any step
    can be drawn by itself. The last batch of an epoch may be short. `client` says whose
    they are, -1 for the held-out part; `skipped` counts texts that there is nothing to learn from. Raises
    DataError where no sample is left.
    """

    def __init__(self, rows: Rows, *, batch_size: int, seed: int, client: int) -> None:
        self.skipped = rows.skipped
        owner = f"client {client}" if client >= 0 else "the held-out part"
        if not len(rows):
            unused = f": there is nothing to learn from in any of its {self.skipped} texts"
            raise DataError(f"{owner} holds no samples{unused * bool(self.skipped)}")
        if self.skipped:
            log.warning("%s: there is nothing to learn from in %d texts", owner, self.skipped)
        self._rows = rows
        self._batch_size = batch_size
        self._seed = seed
        self.client = client
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def __len__(self) -> int:
        """Steps an epoch."""
        return -(-self.num_samples // self._batch_size)

    @property
    def num_samples(self) -> int:
        """How many samples there are."""
        return len(self._rows)

    def batch(self, step: int) -> Batch:
        """The batch of this step, counted from 0 over all epochs."""
        epoch, step_of_epoch = divmod(step, len(self))
        if epoch != self._epoch:
            rng = stream(self._seed, "order", self.client, epoch)
            self._epoch, self._order = epoch, rng.permutation(self.num_samples)
        start = step_of_epoch * self._batch_size
        return self._rows.collated(self._order[start : start + self._batch_size])

    def held_out(self, batch_size: int) -> Iterator[Batch]:
        """Every sample once, shortest first so that little is padded; always the same batches."""
        order = self._rows.shortest_first()
        for start in range(0, len(order), batch_size):
            yield self._rows.collated(order[start : start + batch_size])


@dataclass(frozen=True, kw_only=True)
class TokenCount:
    """How many tokens texts have, their end tokens included, and how many of them are never read.

    Where the loss is over answers, also how many it is over, how many texts have none of these within
    their length, and of how many prompts the end was tokenised together with the completion.
    """

    texts: int
    tokens: int
    truncated_texts: int
    truncated_tokens: int
    learnt_tokens: int | None = None
    unlearnt_texts: int = 0
    cut_prompts: int = 0


class Texts:
    """Examples as samples of at most `max_length` tokens.

    `packing` is `truncate` (a sample is the beginning of a text), `chunk` (a long text is several samples)
    or `pack` (one text follows another, and is cut anywhere). A language model's text ends with the
    tokenizer's end token, where it has one. Left out are samples with no token, and for a language
    model those with one: there is nothing to predict. Raises ConfigError for a token that a model of
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
    ) -> None:
        is_lm = kind == "causal-lm"
        assert is_lm == (examples.labels is None), "the kind and the labels disagree"
        assert tokenizer.pad_token_id is not None
        plain = [str(text) for text in examples.texts]
        texts = _encoded(plain, tokenizer)
        if is_lm:
            texts = [_ended(ids, tokenizer.eos_token_id) for ids in texts]
        if num_embeddings is not None:
            check_embedded(texts, tokenizer, num_embeddings)
        tokens, self.count = _fitted(plain, texts, tokenizer, max_length, packing, is_lm=is_lm)
        kept = [i for i, ids in enumerate(tokens) if len(ids) > is_lm]
        self.skipped = len(tokens) - len(kept)
        self._labels = None if examples.labels is None else examples.labels[kept]
        self._tokens = [tokens[i] for i in kept]
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
        return Batch(
            ids_B=torch.tensor(indices, dtype=torch.int64),
            inputs={"input_ids": ids_BT, "attention_mask": mask_BT},
            labels=ids_BT.masked_fill(mask_BT == 0, NOTHING_TO_PREDICT)
            if classes is None
            else torch.from_numpy(classes[indices]),
        )


def padded_width(longest: int, max_length: int) -> int:
    """The tokens of a padded batch: a multiple of 8 within `max_length`."""
    return min(-(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF, max_length)


def check_embedded(tokens: list[Ints], tokenizer: "PreTrainedTokenizerBase", num_embeddings: int) -> None:
    """ConfigError for a token that a model of `num_embeddings` does not have."""
    largest = max((int(ids.max()) for ids in tokens if len(ids)), default=0)
    if largest >= num_embeddings:
        raise ConfigError(
            f"the tokenizer has token {largest} ({tokenizer.convert_ids_to_tokens(largest)!r}) and the model "
            f"{num_embeddings} embeddings: they are not of one checkpoint, or tokens were added and the "
            "embeddings not enlarged; call model.resize_token_embeddings(len(tokenizer)) and save it again"
        )


def _encoded(
    texts: Sequence[str], tokenizer: "PreTrainedTokenizerBase", max_length: int | None = None
) -> list[Ints]:
    if not texts:
        return []
    encoded = tokenizer(
        list(texts),
        truncation=max_length is not None,
        max_length=max_length,
        return_attention_mask=False,
        return_token_type_ids=False,
        verbose=False,  # about texts longer than the model's positions, which are cut below
    )
    return [np.array(ids, dtype=np.int64) for ids in encoded["input_ids"]]


def _ended(ids: Ints, end: int | None) -> Ints:
    """A text's tokens with the end token, unless that is there."""
    return ids if end is None or (len(ids) and ids[-1] == end) else np.append(ids, end)


def _fitted(
    texts: Sequence[str],
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
