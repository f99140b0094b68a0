"""Evaluates the unsplit model on the held-out data, during a run or from its exported adapter."""

import math
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from torch import nn

from splitfl.adapters.export import folders_inside
from splitfl.adapters.model_export import MODEL_FOLDER, is_full
from splitfl.core.errors import ConfigError
from splitfl.data.batch import Batch
from splitfl.data.examples import Examples
from splitfl.data.loader import NOTHING_TO_PREDICT, padding_token, tokenizer
from splitfl.models.cut import CLASSES, DTYPES
from splitfl.models.families import CAUSAL_LM, IMAGE_CLASSIFICATION
from splitfl.models.load import load_piece, read_config
from splitfl.models.source import resolve
from splitfl.server.bleu import bleu
from splitfl.setup.experiment import Experiment, device_of


def measure(model: nn.Module, held_out: Iterable[Batch], device: torch.device) -> dict[str, float]:
    """`eval_loss` (mean over labels or tokens), and `accuracy` or `perplexity`, of a whole model."""
    loss_sum, predicted, right = 0.0, 0, 0
    is_classification = True
    with torch.inference_mode():
        for batch in held_out:
            moved = batch.to(device)
            output = model(**moved.inputs, labels=moved.labels)
            is_classification = moved.labels.ndim == 1
            if is_classification:
                count = len(moved.labels)
                right += int((output.logits.argmax(-1) == moved.labels).sum())
            else:
                count = int((moved.labels[:, 1:] != NOTHING_TO_PREDICT).sum())
            loss_sum += output.loss.item() * count
            predicted += count
    loss = loss_sum / predicted
    if is_classification:
        return {"eval_loss": loss, "accuracy": right / predicted}
    return {"eval_loss": loss, "perplexity": math.exp(min(loss, 700.0))}


def measure_adapter(experiment: Experiment, adapter: Path) -> dict[str, float]:
    """Evaluates the stock model with the exported adapter, loaded by peft, on the held-out data.

    After full fine-tuning, evaluates the exported model instead. Raises ConfigError for a missing or
    unsuitable adapter, ModelMissing for a missing model.
    """
    config, kind = experiment.config, experiment.task.kind
    device = torch.device(device_of(config.server))
    if is_full(config.adapter):
        whole = load_piece(adapter.parent / MODEL_FOLDER, kind, 0, attention=config.model.attention)
        return _measured(whole.to(device).model, experiment, adapter.parent / MODEL_FOLDER)
    folder = resolve(config.model.name)
    settings = read_config(
        folder,
        kind,
        config.model.attention,
        num_labels=len(experiment.task.label_names) or None,
        pad_token_id=None if kind == IMAGE_CLASSIFICATION else padding_token(folder),
    )
    if kind == CAUSAL_LM:
        settings.is_decoder = True
    model = CLASSES[kind].from_pretrained(
        folder,
        config=settings,
        dtype=DTYPES[config.model.dtype],
        attn_implementation=config.model.attention,
        ignore_mismatched_sizes=config.model.new_classifier,
    )
    try:
        adapted = PeftModel.from_pretrained(model, str(adapter))
        for inside in folders_inside(adapter):
            with warnings.catch_warnings():  # peft warns of a second adapter, whose modules are disjoint
                warnings.simplefilter("ignore", UserWarning)
                adapted = PeftModel.from_pretrained(adapted.get_base_model(), str(inside))
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot load the adapter in {adapter}: {str(error).splitlines()[0]}") from None
    return _measured(adapted.to(device).eval(), experiment, folder)


def _measured(model: Any, experiment: Experiment, folder: Path) -> dict[str, float]:
    """All metrics of a model; BLEU only for text generation."""
    found, held_out = measure(model, experiment.held_out(), model.device), experiment.task.held_out
    if experiment.task.name == "e2e":
        assert isinstance(held_out, Examples)
        found["bleu"] = bleu(model, tokenizer(folder), held_out, experiment.config.task.max_length)
    return found
