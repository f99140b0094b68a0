"""Text from the language model that a run has finetuned."""

# B batch, T tokens

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from splitfl.config import RunConfig, above, at_least
from splitfl.config.checks import one_of
from splitfl.config.data import TEMPLATES
from splitfl.core.default_generator import default_generator
from splitfl.core.errors import ConfigError
from splitfl.data.answers import written_prompt
from splitfl.data.chat_template import ChatTemplate
from splitfl.data.loader import tokenizer
from splitfl.data.task import kind_of
from splitfl.data.text_kinds import Answered, ChatMessage
from splitfl.evaluation.evaluate import finished_model
from splitfl.models.families import LANGUAGE_MODELS, block_config


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How tokens are drawn: at most `max_new_tokens`, the likeliest ones where `temperature` is 0.

    `template` is auto, plain, alpaca or chat; auto is the run's own, and where that is auto too, chat
    for a run on answers whose tokenizer has a chat template, else plain.
    """

    max_new_tokens: int = 128
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int = 0
    template: str = "auto"

    def __post_init__(self) -> None:
        at_least("--max-new-tokens", self.max_new_tokens, 1)
        at_least("--temperature", self.temperature, 0.0)
        above("--top-p", self.top_p, 0.0)
        if self.top_p > 1.0:
            raise ConfigError(f"--top-p must be at most 1, got {self.top_p}")
        at_least("--seed", self.seed, 0)
        one_of("--template", self.template, TEMPLATES)


class Generator:
    """The finished model of a run in this folder, which continues prompts.

    Raises ConfigError for a run of another kind of task, or without an adapter that fits; ModelMissing
    where the model is.
    """

    def __init__(self, config: RunConfig, folder: Path, sampling: Sampling) -> None:
        kind = kind_of(config.task)
        if kind not in LANGUAGE_MODELS:
            raise ConfigError(f"text comes from language models; the run in {folder} is of {kind}")
        self._model, where = finished_model(config, kind, folder / "adapter")
        self._tokenizer: Any = tokenizer(where)
        self._sampling = sampling
        self.template = self._template(config)

    def continued(self, prompt: str) -> str:
        """What the model writes after this prompt; the same for the same seed.

        Raises ConfigError for a prompt that leaves too few of the model's positions.
        """
        ids_BT = torch.tensor([self._ids(prompt)], device=self._model.device)
        self._check_room(ids_BT.shape[1])
        sampling, has_chance = self._sampling, self._sampling.temperature > 0
        chance = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
        with default_generator(sampling.seed, gpus=True), torch.inference_mode():
            found_BT = self._model.generate(
                input_ids=ids_BT,
                attention_mask=torch.ones_like(ids_BT),
                max_new_tokens=sampling.max_new_tokens,
                do_sample=has_chance,
                use_cache=True,
                pad_token_id=self._tokenizer.pad_token_id,
                eos_token_id=self._ends(),
                **(chance if has_chance else {}),
            )
        start = 0 if self._has_decoder else ids_BT.shape[1]
        text: str = self._tokenizer.decode(found_BT[0, start:], skip_special_tokens=True)
        return text

    def _template(self, config: RunConfig) -> str:
        for chosen in (self._sampling.template, config.task.template):
            if chosen != "auto":
                return chosen
        return "chat" if config.task.name == "sft" and self._tokenizer.chat_template else "plain"

    def _ids(self, prompt: str) -> list[int]:
        if self.template == "chat":
            ids = ChatTemplate(self._tokenizer).prompt([ChatMessage("user", prompt)])
        else:
            asked = Answered(prompt=prompt, completion="")
            ids = self._tokenizer(written_prompt(asked, self.template))["input_ids"]
        if not ids:
            raise ConfigError(f"--prompt must have a token, got {prompt!r}")
        return ids

    def _check_room(self, length: int) -> None:
        positions = getattr(block_config(self._model.config), "max_position_embeddings", None)
        if self._has_decoder and positions is not None:
            self._check_decoder_room(length, positions)
        elif positions is not None and length + self._sampling.max_new_tokens > positions:
            raise ConfigError(
                f"--max-new-tokens must be at most {max(positions - length, 0)} after a prompt of {length} "
                f"tokens, for a model of {positions} positions; got {self._sampling.max_new_tokens}"
            )

    def _check_decoder_room(self, length: int, positions: int) -> None:
        for setting, got in (("--prompt", length), ("--max-new-tokens", self._sampling.max_new_tokens)):
            if got > positions:
                raise ConfigError(f"{setting} must be of at most the model's {positions} tokens, got {got}")

    @property
    def _has_decoder(self) -> bool:
        """Whether the prompt is read by an encoder, and the answer is all that is written."""
        return bool(self._model.config.is_encoder_decoder)

    def _ends(self) -> list[int] | None:
        """The tokens that end a text: the tokenizer's, and those of the checkpoint."""
        own = self._model.generation_config.eos_token_id
        ends = {self._tokenizer.eos_token_id, *(own if isinstance(own, list) else [own])} - {None}
        return sorted(ends) or None
