"""A task's samples as its model takes them."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from transformers import PretrainedConfig, PreTrainedTokenizerBase

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError
from splitfl.data.answers import Answers
from splitfl.data.examples import Examples
from splitfl.data.loader import Rows, check_embedded, tokenizer
from splitfl.data.pictures import Pictures
from splitfl.data.pixels import Format, PictureFiles, Pixels
from splitfl.data.prompts import Prompts
from splitfl.data.reading.tagged import TaggedTexts
from splitfl.data.samples import Samples
from splitfl.data.task import Task
from splitfl.data.texts import Texts
from splitfl.data.token_pieces import TokenPieces
from splitfl.data.token_windows import Windows
from splitfl.models.families import (
    FAMILIES,
    IMAGE_CLASSIFICATION,
    SEQ2SEQ_LM,
    TOKEN_CLASSIFICATION,
    block_config,
)
from splitfl.models.load import read_config

MakeRows = Callable[[Samples], Rows]
"""Makes one client's samples, or the held-out ones, into rows of batches."""

TextRows = Texts | Answers | Prompts | TaggedTexts


def row_maker(task: Task, config: RunConfig, folder: Path) -> MakeRows:
    """How samples become rows for the model in this folder, whose tokenizer is read once.

    The function raises as the class does that the samples become.
    """
    if task.kind != IMAGE_CLASSIFICATION:
        make = text_maker(task, config, folder)

        def texts(samples: Samples) -> Rows:
            assert not isinstance(samples, Pictures)
            return make(samples)

        return texts
    shown = _format(read_config(folder, task.kind, config.model.attention))

    def pictures(samples: Samples) -> Rows:
        assert not isinstance(samples, TokenPieces)
        return (
            Pixels(samples, shown) if isinstance(samples, Pictures) else PictureFiles(samples, folder, shown)
        )

    return pictures


def text_maker(
    task: Task, config: RunConfig, folder: Path
) -> Callable[[Examples | TokenPieces], TextRows | Windows]:
    """How samples that are texts, or their tokens, become rows."""
    encode, longest = tokenizer(folder), config.task.max_length
    model = block_config(read_config(folder, task.kind, config.model.attention, pad_token_id=0))
    make = _example_maker(task, config, encode, model)

    def rows(samples: Examples | TokenPieces) -> TextRows | Windows:
        if isinstance(samples, Examples):
            return make(samples)
        check_embedded([np.array([samples.largest])], encode, model.vocab_size)
        assert encode.pad_token_id is not None
        return Windows(samples, max_length=longest, pad_id=encode.pad_token_id)

    return rows


def _example_maker(
    task: Task, config: RunConfig, encode: PreTrainedTokenizerBase, model: PretrainedConfig
) -> Callable[[Examples], TextRows]:
    settings = config.task
    if task.kind == SEQ2SEQ_LM:
        return partial(
            Prompts,
            tokenizer=encode,
            template=settings.template,
            max_length=settings.max_length,
            num_embeddings=model.vocab_size,
        )
    if task.has_answers:
        return partial(
            Answers,
            tokenizer=encode,
            loss_on=settings.loss_on,
            template=settings.template,
            max_length=settings.max_length,
            packing=task.packing,
            num_embeddings=model.vocab_size,
        )
    if task.kind == TOKEN_CLASSIFICATION:
        return partial(
            TaggedTexts,
            tokenizer=encode,
            label_names=task.label_names,
            max_length=settings.max_length,
            num_embeddings=model.vocab_size,
        )
    has_types = getattr(model, "type_vocab_size", 0) > 1
    return partial(
        Texts,
        tokenizer=encode,
        kind=task.kind,
        max_length=settings.max_length,
        packing=task.packing,
        num_embeddings=model.vocab_size,
        reads_types=has_types and "token_type_ids" in encode.model_input_names,
    )


def check_packing(task: Task, model_type: str) -> None:
    """ConfigError for models that let packed texts attend to each other."""
    if task.has_answers and task.packing == "pack" and not FAMILIES[model_type].separates_packed:
        raise ConfigError(
            f"task.packing must be 'auto' or 'truncate' for a {model_type} model, in which texts that are "
            "packed into one sample would attend to each other; got 'pack'"
        )


def _format(model: PretrainedConfig) -> Format:
    """The pictures that a model of this configuration takes; patches and class token are ViT's tokens."""
    has_class_token = FAMILIES[model.model_type].has_class_token
    model = block_config(model)
    patch = getattr(model, "patch_size", 0)
    tokens = (model.image_size // patch) ** 2 + has_class_token if patch else 1
    return Format(side=model.image_size, channels=model.num_channels, tokens=tokens)
