"""Pieces of text as ranges of one file of tokens, which may be larger than memory."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from splitfl.core.errors import DataError
from splitfl.data.examples import Ints

Tokens = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True, eq=False)
class TokenPieces:
    """Pieces of text as ranges `starts` to `ends` of the memory-mapped `tokens`, in the order of the corpus.

    `keys` are as those of Examples, `group_of` is the number of each piece's group in `group_names`, and
    `largest` the largest token of the file.
    """

    tokens: Tokens
    starts: Ints
    ends: Ints
    keys: Ints
    group_of: npt.NDArray[np.int32]
    group_names: tuple[str, ...]
    largest: int
    labels: None = None

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def groups(self) -> tuple[str, ...]:
        """The group of each piece."""
        return tuple(self.group_names[group] for group in self.group_of)

    @property
    def sizes(self) -> Ints:
        """How many tokens each piece has."""
        return self.ends - self.starts

    def take(self, indices: Ints) -> "TokenPieces":
        """Those at these indices, in this order."""
        return replace(
            self,
            starts=self.starts[indices],
            ends=self.ends[indices],
            keys=self.keys[indices],
            group_of=self.group_of[indices],
        )

    def first(self, limit: int) -> "TokenPieces":
        """The `limit` pieces with the smallest keys, an unbiased choice, in the corpus' order; 0: all."""
        if limit == 0 or limit >= len(self):
            return self
        return self.take(np.sort(np.argsort(self.keys, kind="stable")[:limit]))


def check_tokens(
    pieces: TokenPieces, shares: Sequence[Sequence[int]], batch_size: int, max_length: int
) -> None:
    """Raises DataError for a client whose pieces have fewer tokens than a batch.

    A client without pieces has data on another machine.
    """
    batch = batch_size * max_length
    for client, own in enumerate(shares):
        if own and (held := int(pieces.sizes[list(own)].sum())) < batch:
            raise DataError(
                f"client {client} would have {held:,} tokens, fewer than the {batch:,} of a batch "
                f"(train.batch_size {batch_size} times task.max_length {max_length}); give more text, or "
                "take fewer clients or smaller batches"
            )
