"""Prompts for an encoder, with completions for the decoder after it.

The conventions are those of transformers' examples of summarisation and translation: the tokenizer encodes
the prompt, and the completion as its target; the loss is over every token of the completion and its end.
"""

# B batch, T tokens of the prompts, U tokens of the completions

from typing import TYPE_CHECKING

import numpy as np
import torch

from splitfl.data.answers import written_prompt
from splitfl.data.batch import Batch
from splitfl.data.examples import Examples, Ints
from splitfl.data.loader import NOTHING_TO_PREDICT, TokenCount, check_embedded, padded, padded_width
from splitfl.data.text_kinds import Answered

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Prompts:
    """Prompts and completions of at most `max_length` tokens each, cut at their ends; see `Rows`.

    `template` says how a prompt and its context become text: plain, alpaca, or auto (alpaca where rows have a
    context). Raises ConfigError for a token that a model of `num_embeddings` does not have.
    """

    skipped = 0

    def __init__(
        self,
        examples: Examples,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        template: str,
        max_length: int,
        num_embeddings: int,
    ) -> None:
        assert tokenizer.pad_token_id is not None
        texts = [text for text in examples.texts if isinstance(text, Answered)]
        assert len(texts) == len(examples.texts)
        prompts = [written_prompt(text, template) for text in texts]
        asked = _tokens(tokenizer(prompts, verbose=False)["input_ids"])
        said = _tokens(tokenizer(text_target=[text.completion for text in texts], verbose=False)["input_ids"])
        end = tokenizer.eos_token_id
        said = [_ended(ids, end) for ids in said]
        check_embedded([*asked, *said], tokenizer, num_embeddings)
        self._prompts = [ids[:max_length] for ids in asked]
        self._answers = [ids[:max_length] for ids in said]
        self.count = _counted(asked, said, max_length)
        self._pad_id: int = tokenizer.pad_token_id
        self._max_length = max_length

    def __len__(self) -> int:
        return len(self._prompts)

    def shortest_first(self) -> Ints:
        """See Rows."""
        return np.argsort([len(ids) for ids in self._prompts], kind="stable")

    def collated(self, indices: Ints) -> Batch:
        """Prompts (B, T) and answers (B, U), each padded on the right."""
        prompts, answers = ([rows[i] for i in indices] for rows in (self._prompts, self._answers))
        width = padded_width(max(map(len, prompts)), self._max_length)
        return Batch(
            ids_B=torch.tensor(indices, dtype=torch.int64),
            inputs={
                "input_ids": padded(prompts, width, self._pad_id),
                "attention_mask": padded([np.ones_like(ids) for ids in prompts], width, 0),
            },
            labels=padded(
                answers, padded_width(max(map(len, answers)), self._max_length), NOTHING_TO_PREDICT
            ),
            has_answers=True,
        )


def _tokens(rows: list[list[int]]) -> list[Ints]:
    return [np.array(row, dtype=np.int64) for row in rows]


def _ended(ids: Ints, end: int | None) -> Ints:
    """The tokens with the end token, which some tokenizers do not add."""
    return ids if end is None or (len(ids) and ids[-1] == end) else np.append(ids, np.int64(end))


def _counted(asked: list[Ints], said: list[Ints], max_length: int) -> TokenCount:
    long = [max(0, len(ids) - max_length) for ids in (*asked, *said)]
    texts = [sum(pair) > 0 for pair in zip(long[: len(asked)], long[len(asked) :], strict=True)]
    return TokenCount(
        texts=len(asked),
        tokens=sum(map(len, asked)) + sum(map(len, said)),
        truncated_texts=sum(texts),
        truncated_tokens=sum(long),
        learnt_tokens=sum(min(len(ids), max_length) for ids in said),
    )
