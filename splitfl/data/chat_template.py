"""Chats as tokens, by the tokenizer's chat template, and which of the tokens are answers."""

# T tokens

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from jinja2 import TemplateError

from splitfl.core.errors import ConfigError, DataError
from splitfl.data.examples import Ints
from splitfl.data.text_kinds import Chat, ChatMessage

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Mask = npt.NDArray[np.bool_]

ASSISTANT = "assistant"

_GENERATION = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


class ChatTemplate:
    """The chat template of a tokenizer, as trl.SFTTrainer uses it: the template places all special tokens.

    Raises ConfigError for a tokenizer without one.
    """

    def __init__(self, tokenizer: "PreTrainedTokenizerBase") -> None:
        self._tokenizer: Any = tokenizer
        try:
            template = self._tokenizer.get_chat_template()
        except ValueError:
            raise ConfigError(
                f"the tokenizer in {tokenizer.name_or_path} has no chat template, which chats need: put a "
                "chat_template.jinja into that folder, or take the checkpoint's instruct variant"
            ) from None
        self._marks_answers = _GENERATION.search(template) is not None

    def prompt(self, messages: Sequence[ChatMessage]) -> list[int]:
        """The tokens of messages that an answer is to follow."""
        ids: list[int] = self._ids(messages, add_generation_prompt=True)["input_ids"]
        return ids

    def encoded(self, chat: Chat, *, answers_only: bool) -> tuple[Ints, Mask]:
        """The tokens (T,) of a chat, and (T,) which are to be learnt.

        These are all, or where `answers_only` its completion, or the messages of role assistant: between the
        template's generation markers where it has them, else by the difference that each message makes.

        Raises DataError for a chat that the template does not take, ConfigError for a template without
        markers that renders messages otherwise once others follow.
        """
        if not answers_only:
            ids = _ints(self._ids(chat.messages)["input_ids"])
            return ids, np.ones(len(ids), dtype=np.bool_)
        if chat.prompt_length:
            prompt = self.prompt(chat.messages[: chat.prompt_length])
            ids = _ints(self._ids(chat.messages)["input_ids"])
            return ids, np.arange(len(ids)) >= common_prefix(prompt, ids)
        if self._marks_answers:
            found = self._ids(chat.messages, return_assistant_tokens_mask=True)
            return _ints(found["input_ids"]), np.array(found["assistant_masks"], dtype=np.bool_)
        return self._by_difference(chat)

    def _by_difference(self, chat: Chat) -> tuple[Ints, Mask]:
        whole = self._rendered(chat.messages)
        found = self._tokenizer(whole, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        first_T, last_T = np.array(found["offset_mapping"], dtype=np.int64).reshape(-1, 2).T
        is_answer_T = np.zeros(len(first_T), dtype=np.bool_)
        for index, message in enumerate(chat.messages):
            if message.role == ASSISTANT:
                start, end = self._span(chat.messages, index, whole)
                is_answer_T |= (last_T > start) & (first_T < end)
        return _ints(found["input_ids"]), is_answer_T

    def _span(self, messages: Sequence[ChatMessage], index: int, whole: str) -> tuple[int, int]:
        """Where a message stands in the rendered chat, without what a prompt ends with."""
        before = self._rendered(messages[:index], add_generation_prompt=True) if index else ""
        after = self._rendered(messages[: index + 1])
        if not (whole.startswith(after) and after.startswith(before)):
            raise ConfigError(
                f"the chat template of {self._tokenizer.name_or_path} renders messages otherwise once others "
                "follow, so that answers cannot be told from prompts: put {% generation %} and "
                "{% endgeneration %} around them in the template, or set task.loss_on = 'all'"
            )
        return len(before), len(after)

    def _rendered(self, messages: Sequence[ChatMessage], **options: bool) -> str:
        return str(self._applied(messages, tokenize=False, **options))

    def _ids(self, messages: Sequence[ChatMessage], **options: bool) -> Any:
        return self._applied(messages, tokenize=True, return_dict=True, **options)

    def _applied(self, messages: Sequence[ChatMessage], **options: bool) -> Any:
        turns = [{"role": message.role, "content": message.content} for message in messages]
        try:
            return self._tokenizer.apply_chat_template(turns, **options)
        except (TemplateError, TypeError) as error:
            roles = ", ".join(turn["role"] for turn in turns)
            raise DataError(
                f"the chat template of {self._tokenizer.name_or_path} does not take the chat that begins "
                f"with {messages[0].content!r:.60} (roles {roles}): {error}"
            ) from None


def common_prefix(first: Sequence[int] | Ints, second: Sequence[int] | Ints) -> int:
    """How many tokens two texts begin with alike."""
    length = min(len(first), len(second))
    differs = np.flatnonzero(np.asarray(first[:length]) != np.asarray(second[:length]))
    return int(differs[0]) if len(differs) else length


def _ints(ids: Sequence[int]) -> Ints:
    return np.array(ids, dtype=np.int64)
