"""Pieces of text packed into samples of a language model, which are read from the file of tokens."""

# B batch, T tokens

import numpy as np
import torch

from splitfl.data.batch import Batch
from splitfl.data.examples import Ints
from splitfl.data.loader import NOTHING_TO_PREDICT, TokenCount, padded, padded_width
from splitfl.data.token_pieces import TokenPieces


class Windows:
    """One client's pieces, one after another, cut into samples of `max_length` tokens; see Rows.

    Each token is in one sample. Tokens are read from the file for one batch at a time.
    The last sample may be shorter; a single token, with which there is nothing to predict, is left out.
    """

    def __init__(self, pieces: TokenPieces, *, max_length: int, pad_id: int) -> None:
        self._pieces = pieces
        self._max_length = max_length
        self._pad_id = pad_id
        self._offsets = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(pieces.sizes)])
        total = int(self._offsets[-1])
        self.skipped = int(total % max_length == 1)
        self._num_samples = -(-total // max_length) - self.skipped
        self.count = TokenCount(texts=len(pieces), tokens=total, truncated_texts=0, truncated_tokens=0)

    def __len__(self) -> int:
        return self._num_samples

    def shortest_first(self) -> Ints:
        """See Rows: only the last one may be shorter."""
        return np.roll(np.arange(len(self)), 1)

    def collated(self, indices: Ints) -> Batch:
        """Padded on the right as texts are."""
        rows = [self._row(int(index)) for index in indices]
        width = padded_width(max(map(len, rows)), self._max_length)
        ones = [np.ones_like(row) for row in rows]
        return Batch(
            ids_B=torch.tensor(indices, dtype=torch.int64),
            inputs={
                "input_ids": padded(rows, width, self._pad_id),
                "attention_mask": padded(ones, width, 0),
            },
            labels=padded(rows, width, NOTHING_TO_PREDICT),
        )

    def _row(self, index: int) -> Ints:
        """The tokens of this sample, which may begin in one piece and end in another."""
        begin, end = index * self._max_length, min((index + 1) * self._max_length, int(self._offsets[-1]))
        first, last = np.searchsorted(self._offsets, [begin, end - 1], side="right") - 1
        parts = []
        for piece in range(first, last + 1):
            start = int(self._pieces.starts[piece]) - int(self._offsets[piece])
            since, until = max(begin, int(self._offsets[piece])), min(end, int(self._offsets[piece + 1]))
            parts.append(self._pieces.tokens[start + since : start + until])
        return np.concatenate(parts).astype(np.int64)
