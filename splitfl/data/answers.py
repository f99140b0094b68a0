"""Prompts with completions, and chats, as samples whose loss is over their answers alone.

The conventions are those of trl.SFTTrainer: a completion begins where the tokens of the prompt and those of
the whole text part, and ends with the end token; too long a sample is cut at its end; packing keeps whole
samples together, best fit decreasing.
"""

# B batch, T tokens

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from splitfl.data.batch import Batch
from splitfl.data.chat_template import ChatTemplate, common_prefix
from splitfl.data.examples import Examples, Ints
from splitfl.data.loader import NOTHING_TO_PREDICT, TokenCount, check_embedded, padded, padded_width
from splitfl.data.text_kinds import Answered, Chat, ChatMessage, Text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_ALPACA = (
    "Below is an instruction that describes a task{}. Write a response that appropriately completes the "
)
_PAIRED = ", paired with an input that provides further context"


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """Tokens (T,) int64 of one text, or of several one after another, and what is learnt of them.

    `labels` are -100 where nothing is, `positions` count from 0 within each text. `cut_prompt` says that the
    end of the prompt was tokenised together with the completion.
    """

    ids: Ints
    labels: Ints
    positions: Ints
    cut_prompt: bool = False

    @property
    def num_learnt(self) -> int:
        """How many tokens are in the loss: none is read from the first one of a text."""
        return int(((self.labels != NOTHING_TO_PREDICT) & (self.positions > 0)).sum())

    def first(self, length: int) -> "Sample":
        """The beginning of it."""
        return replace(
            self, ids=self.ids[:length], labels=self.labels[:length], positions=self.positions[:length]
        )


class Answers:
    """Prompts with completions and chats as samples of at most `max_length` tokens; see `Rows`.

    `loss_on` is answers or all. `template` says how a prompt and its input become text: plain (one after the
    other), alpaca (Taori et al., 2023), chat (a user's message in the tokenizer's chat template), or auto
    (alpaca where rows have an input, else plain). `packing` is `truncate` (a text a sample) or `pack`
    (several texts a sample, each of which attends to itself alone). A text that has nothing to learn
    within `max_length` is left out.

    Raises ConfigError for a tokenizer without the chat template that is needed, and for a token that a model
    of `num_embeddings`, if that is given, does not have; DataError for a chat that the template refuses.
    """

    def __init__(
        self,
        examples: Examples,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        loss_on: str,
        template: str,
        max_length: int,
        packing: str = "truncate",
        num_embeddings: int | None = None,
    ) -> None:
        assert tokenizer.pad_token_id is not None
        texts = Tokenised(tokenizer, answers_only=loss_on == "answers", template=template).of(examples.texts)
        if num_embeddings is not None:
            check_embedded([text.ids for text in texts], tokenizer, num_embeddings)
        kept = [one for one in (text.first(max_length) for text in texts) if one.num_learnt]
        self.skipped = len(texts) - len(kept)
        self.count = _counted(texts, kept, max_length)
        self._is_packed = packing == "pack"
        self._samples = packed(kept, max_length) if self._is_packed else kept
        self._pad_id: int = tokenizer.pad_token_id
        self._max_length = max_length

    def __len__(self) -> int:
        return len(self._samples)

    def shortest_first(self) -> Ints:
        """See Rows."""
        return np.argsort([len(sample.ids) for sample in self._samples], kind="stable")

    def collated(self, indices: Ints) -> Batch:
        """Padded on the right as texts are; packed samples have positions in place of a mask."""
        samples = [self._samples[i] for i in indices]
        width = padded_width(max(len(sample.ids) for sample in samples), self._max_length)
        ids_BT = padded([sample.ids for sample in samples], width, self._pad_id)
        positions_BT = padded([sample.positions for sample in samples], width, 0)
        mask_BT = padded([np.ones_like(sample.ids) for sample in samples], width, 0)
        second = {"position_ids": positions_BT} if self._is_packed else {"attention_mask": mask_BT}
        return Batch(
            ids_B=torch.tensor(indices, dtype=torch.int64),
            inputs={"input_ids": ids_BT, **second},
            labels=padded([sample.labels for sample in samples], width, NOTHING_TO_PREDICT),
        )


class Tokenised:
    """Turns texts into samples, whole."""

    def __init__(self, tokenizer: "PreTrainedTokenizerBase", *, answers_only: bool, template: str) -> None:
        self._tokenizer = tokenizer
        self._answers_only = answers_only
        self._template = template
        self._chats: ChatTemplate | None = None

    def of(self, texts: Sequence[Text]) -> list[Sample]:
        """A sample of each; Raises as `Answers` does."""
        if self._template == "chat":
            texts = [as_chat(text) if isinstance(text, Answered) else text for text in texts]
        answered = [text for text in texts if isinstance(text, Answered)]
        from_prompts = iter(self._answered(answered))
        return [self._chat(text) if isinstance(text, Chat) else next(from_prompts) for text in texts]

    def _chat(self, chat: Chat) -> Sample:
        self._chats = self._chats or ChatTemplate(self._tokenizer)
        ids, is_learnt = self._chats.encoded(chat, answers_only=self._answers_only)
        return _sample(ids, is_learnt)

    def _answered(self, texts: Sequence[Answered]) -> list[Sample]:
        if not texts:
            return []
        end = self._tokenizer.eos_token
        prompts = [written_prompt(text, self._template) for text in texts]
        wholes = [prompt + text.completion for prompt, text in zip(prompts, texts, strict=True)]
        if isinstance(end, str):
            wholes = [whole if whole.endswith(end) else whole + end for whole in wholes]
        encoded = [self._tokenizer(some, verbose=False)["input_ids"] for some in (prompts, wholes)]
        samples = []
        for prompt_ids, whole_ids in zip(*encoded, strict=True):
            start = common_prefix(prompt_ids, whole_ids)
            is_learnt = np.arange(len(whole_ids)) >= (start if self._answers_only else 0)
            sample = _sample(np.array(whole_ids, dtype=np.int64), is_learnt)
            samples.append(replace(sample, cut_prompt=start < len(prompt_ids)))
        return samples


def written_prompt(text: Answered, template: str) -> str:
    """A prompt as the model reads it."""
    if template == "alpaca" or (template == "auto" and text.context is not None):
        return _alpaca(text)
    return f"{text.prompt}\n\n{text.context}" if text.context else text.prompt


def as_chat(text: Answered) -> Chat:
    """The prompt as a user's message, the completion as the assistant's."""
    messages = (ChatMessage("user", written_prompt(text, "plain")), ChatMessage("assistant", text.completion))
    return Chat(messages=messages, prompt_length=1)


def _alpaca(text: Answered) -> str:
    paired = _PAIRED if text.context else ""
    given = f"\n\n### Input:\n{text.context}" if text.context else ""
    head = _ALPACA.format(paired) + "request."
    return f"{head}\n\n### Instruction:\n{text.prompt}{given}\n\n### Response:\n"


def packed(samples: Sequence[Sample], max_length: int) -> list[Sample]:
    """Samples together in rows of at most `max_length` tokens: the longest first, each where it fits best."""
    by_length = sorted(samples, key=lambda sample: -len(sample.ids))
    bins: list[list[Sample]] = []
    with_space: dict[int, deque[list[Sample]]] = {}
    for sample in by_length:
        fitting = [space for space, some in with_space.items() if space >= len(sample.ids) and some]
        space = min(fitting, default=max_length)
        if fitting:
            bin_ = with_space[space].popleft()
        else:
            bins.append(bin_ := [])
        bin_.append(sample)
        with_space.setdefault(space - len(sample.ids), deque()).append(bin_)
    return [_joined(some) for some in bins]


def _joined(samples: Sequence[Sample]) -> Sample:
    labels = [np.append(NOTHING_TO_PREDICT, sample.labels[1:]) for sample in samples]
    return Sample(
        ids=np.concatenate([sample.ids for sample in samples]),
        labels=np.concatenate(labels),
        positions=np.concatenate([sample.positions for sample in samples]),
    )


def _sample(ids: Ints, is_learnt: "np.ndarray") -> Sample:
    labels = np.where(is_learnt, ids, NOTHING_TO_PREDICT)
    return Sample(ids=ids, labels=labels, positions=np.arange(len(ids), dtype=np.int64))


def _counted(texts: Sequence[Sample], kept: Sequence[Sample], max_length: int) -> TokenCount:
    long = [len(text.ids) - max_length for text in texts if len(text.ids) > max_length]
    return TokenCount(
        texts=len(texts),
        tokens=sum(len(text.ids) for text in texts),
        truncated_texts=len(long),
        truncated_tokens=sum(long),
        learnt_tokens=sum(sample.num_learnt for sample in kept),
        unlearnt_texts=len(texts) - len(kept),
        cut_prompts=sum(text.cut_prompt for text in texts),
    )
