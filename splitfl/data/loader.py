"""Texts into tokens, and tokens into batches that anyone can draw again from seed, client and step."""

# B batch, T tokens

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch

from channel.core.rng import stream
from splitfl.core.errors import ConfigError, DataError, ModelMissing
from splitfl.core.folder_cache import cached_by_files
from splitfl.data.batch import Batch
from splitfl.data.examples import Ints

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
        raise _no_tokenizer(folder, "vocab.json and merges.txt") from None
    _check_files(folder, found)
    if found.pad_token is None:
        if found.eos_token is None:
            raise ConfigError(f"the tokenizer in {folder} has neither a pad token nor an end token")
        found.pad_token = found.eos_token
        log.info("the tokenizer in %s has no pad token; its end token %r pads", folder, found.eos_token)
    return found


@cached_by_files
def padding_token(folder: Path) -> int:
    """The number of the token that the tokenizer in a local folder pads with; raises as `tokenizer` does."""
    number = tokenizer(folder).pad_token_id
    assert isinstance(number, int)
    return number


def _check_files(folder: Path, found: "PreTrainedTokenizerBase") -> None:
    """Raises ModelMissing for the tokenizer without a vocabulary that transformers makes without files.

    ModelMissing also for a length that is no number.
    """
    names = found.vocab_files_names
    present = {key for key, name in names.items() if (folder / name).is_file()}
    is_whole = "merges_file" not in names or present & {"tokenizer_file", "merges_file"}
    if names and not (present and is_whole):
        files = [name for key, name in names.items() if key in ("vocab_file", "merges_file")]
        raise _no_tokenizer(folder, " and ".join(files))
    if not isinstance(found.model_max_length, int | float):
        raise ModelMissing(
            f"{folder / 'tokenizer_config.json'}: model_max_length must be a number, "
            f"got {found.model_max_length!r}"
        )


def _no_tokenizer(folder: Path, others: str) -> ModelMissing:
    return ModelMissing(f"no tokenizer in {folder}; it needs a tokenizer.json{others and f', or {others}'}")


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
        batch = self._rows.collated(self._order[start : start + self._batch_size])
        return replace(batch, client=self.client)

    def samples(self, numbers: Sequence[int]) -> Batch:
        """The samples of these numbers, which are the `ids_B` of batches, in this order.

        Raises DataError for a number that this client has no sample of.
        """
        if unknown := [number for number in numbers if not 0 <= number < self.num_samples]:
            raise DataError(
                f"client {self.client} has samples 0..{self.num_samples - 1} of these data, got {unknown[0]}"
            )
        return replace(self._rows.collated(np.array(numbers, dtype=np.int64)), client=self.client)

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


def padded_width(longest: int, max_length: int) -> int:
    """The tokens of a padded batch: a multiple of 8 within `max_length`."""
    return min(-(-longest // PAD_TO_MULTIPLE_OF) * PAD_TO_MULTIPLE_OF, max_length)


def padded(rows: Sequence[Ints], width: int, value: int) -> torch.Tensor:
    """(B, `width`) int64: each row with this value on its right."""
    filled = np.full((len(rows), width), value, dtype=np.int64)
    for to, row in zip(filled, rows, strict=True):
        to[: len(row)] = row
    return torch.from_numpy(filled)


def check_embedded(tokens: list[Ints], tokenizer: "PreTrainedTokenizerBase", num_embeddings: int) -> None:
    """ConfigError for a token that a model of `num_embeddings` does not have."""
    largest = max((int(ids.max()) for ids in tokens if len(ids)), default=0)
    if largest >= num_embeddings:
        raise ConfigError(
            f"the tokenizer has token {largest} ({tokenizer.convert_ids_to_tokens(largest)!r}) and the model "
            f"{num_embeddings} embeddings: they are not of one checkpoint, or tokens were added and the "
            "embeddings not enlarged; call model.resize_token_embeddings(len(tokenizer)) and save it again"
        )
