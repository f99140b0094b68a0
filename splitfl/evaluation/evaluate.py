"""Evaluates the unsplit model on the held-out data, during a run or from its exported adapter."""

import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from splitfl.adapters.export import folders_inside
from splitfl.adapters.model_export import MODEL_FOLDER, is_full
from splitfl.config import RunConfig
from splitfl.core.confusion import as_triples
from splitfl.core.errors import ConfigError
from splitfl.data.examples import Examples
from splitfl.data.loader import padding_token, tokenizer
from splitfl.evaluation.bleu import bleu
from splitfl.evaluation.predictions import predict
from splitfl.evaluation.rouge import rouge
from splitfl.models.checkpoint.quantised_checkpoint import is_quantised
from splitfl.models.checkpoint.source import resolve
from splitfl.models.families import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    block_config,
    family_of,
)
from splitfl.models.load import load_piece, read_config
from splitfl.models.quantised import quantisation_of
from splitfl.models.unsplit import DTYPES, auto_class
from splitfl.setup.experiment import Experiment, device_of


def measured(model: Any, experiment: Experiment) -> tuple[dict[str, float], list[list[int]] | None]:
    """The metrics of a whole model on the held-out data, and the triples of its confusion matrix, if any."""
    names, is_of_tokens = experiment.task.label_names, experiment.task.kind == TOKEN_CLASSIFICATION
    found = predict(model, experiment.held_out(), model.device, tokens_have_classes=is_of_tokens)
    scores = found.scores(names if is_of_tokens else ())
    return scores, None if found.confusion is None else as_triples(found.confusion)


def measure_adapter(experiment: Experiment, adapter: Path, *, with_rouge: bool = False) -> dict[str, float]:
    """Evaluates the stock model with the exported adapter, loaded by peft, on the held-out data.

    After full fine-tuning, evaluates the exported model instead. `with_rouge` generates answers to the
    held-out prompts, too. Raises as `finished_model` does, and ConfigError for a task without answers.
    """
    if with_rouge and not experiment.task.has_answers:
        raise ConfigError(
            "--rouge is for tasks 'sft' and 'seq2seq', whose samples have answers, not "
            f"{experiment.task.name!r}"
        )
    task = experiment.task
    model, folder = finished_model(
        experiment.config, task.kind, adapter, num_labels=task.num_labels, problem_type=task.problem_type
    )
    found = _measured(model, experiment, folder)
    if with_rouge:
        assert isinstance(task.held_out, Examples)
        settings = experiment.config.task
        found |= rouge(
            model, tokenizer(folder), task.held_out, template=settings.template, longest=settings.max_length
        )
    return found


def finished_model(
    config: RunConfig,
    kind: str,
    adapter: Path,
    *,
    num_labels: int | None = None,
    problem_type: str = "single_label_classification",
) -> tuple[Any, Path]:
    """The finished, unsplit model of a run on the server's device, and the folder of its tokenizer.

    Raises ConfigError where the adapter is missing or does not fit, ModelMissing where the model is.
    """
    device = torch.device(device_of(config.server))
    if is_full(config.adapter):
        folder = adapter.parent / MODEL_FOLDER
        whole = load_piece(folder, kind, 0, problem_type=problem_type, attention=config.model.attention)
        return whole.to(device).model, folder
    folder = resolve(config.model.name)
    model = _base_model(config, kind, folder, num_labels, problem_type)
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter))
        for inside in folders_inside(adapter):
            with warnings.catch_warnings():  # peft warns of a second adapter, whose modules are disjoint
                warnings.simplefilter("ignore", UserWarning)
                adapted = PeftModel.from_pretrained(adapted.get_base_model(), str(inside))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot load the adapter in {adapter}: {str(error).splitlines()[0]}") from None
    return adapted.to(device).eval(), folder


def _base_model(config: RunConfig, kind: str, folder: Path, num_labels: int | None, problem_type: str) -> Any:
    """The model without an adapter, as transformers loads it, or with quantised weights as in the run."""
    padding = None if kind == IMAGE_CLASSIFICATION else padding_token(folder)
    settings = read_config(
        folder,
        kind,
        config.model.attention,
        num_labels=num_labels,
        problem_type=problem_type,
        pad_token_id=padding,
    )
    hands_pictures = family_of(settings.model_type).hands_pictures
    if is_quantised(settings) or config.model.quantization != "none":
        return load_piece(
            folder,
            kind,
            0,
            num_labels=num_labels,
            problem_type=problem_type,
            pad_token_id=padding,
            dtype=config.model.dtype,
            attention=config.model.attention,
            new_classifier=config.model.new_classifier,
            quantisation=quantisation_of(config.model),
        ).model
    if kind == CAUSAL_LM:
        settings.is_decoder = True
        # With a cache transformers does not keep packed texts apart.
        settings.use_cache = block_config(settings).use_cache = False
    return auto_class(settings.model_type, kind).from_pretrained(
        folder,
        config=settings,
        dtype=DTYPES[config.model.dtype],
        attn_implementation="eager" if hands_pictures else config.model.attention,
        ignore_mismatched_sizes=config.model.new_classifier,
    )


def _measured(model: Any, experiment: Experiment, folder: Path) -> dict[str, float]:
    """All metrics of a model; BLEU only for task e2e."""
    (found, _), held_out = measured(model, experiment), experiment.task.held_out
    if experiment.task.name == "e2e":
        assert isinstance(held_out, Examples)
        found["bleu"] = bleu(model, tokenizer(folder), held_out, experiment.config.task.max_length)
    return found
