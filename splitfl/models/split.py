"""Splits a model in memory into pieces, or loads one piece of a checkpoint."""

# B batch, T tokens, D hidden

import copy
from pathlib import Path
from typing import Any, Final

from peft import PeftModel
from torch import nn
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto

from splitfl.config import one_of
from splitfl.core.errors import CutError
from splitfl.models.checkpoint.config_file import refuse_router_loss
from splitfl.models.checkpoint.source import resolve
from splitfl.models.cut import Piece, ranges
from splitfl.models.families import (
    CAUSAL_LM,
    FAMILIES,
    IMAGE_CLASSIFICATION,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    block_config,
    check,
    count_blocks,
)
from splitfl.models.load import load_piece, read_config, tied_elsewhere

PARTS: Final = ("head", "body", "tail")

_CLASS_NAMES: Final[dict[str, Any]] = {
    SEQ2SEQ_LM: modeling_auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    CAUSAL_LM: modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    SEQUENCE_CLASSIFICATION: modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES,
    TOKEN_CLASSIFICATION: modeling_auto.MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES,
    IMAGE_CLASSIFICATION: modeling_auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
}
"""The transformers class of each family, for each kind of task."""


def split(model: nn.Module, cut: int, tail: int = 0, *, copy_weights: bool = True) -> tuple[Piece, ...]:
    """Head and body of a transformers or peft model in memory, and a tail of `tail` blocks if above 0.

    Together the pieces compute the model's output in evaluation mode, with bit-identical loss and
    gradients:

        head, body = split(model, cut=2)
        hidden_BTD = head(inputs)  # inputs: {"input_ids": ..., "attention_mask": ...}
        output = body(hidden_BTD, head.context_of(inputs), labels)

    Parameters keep their names and their `requires_grad`. The structure of `model` is never changed: with
    `copy_weights` the pieces have their own weights, otherwise they train the model's tensors. A piece's
    `tied` names parameters tied to one of another piece; their copies are trained separately.

    Raises CutError for a model of an unsupported family or task, a quantised model, a model on several
    devices, and a model with prompt learning of peft.
    """
    whole = _task_model(model)
    kind = _kind_of(whole)
    _refuse_spread(whole)
    refuse_router_loss("the model's configuration", whole.config)
    check(whole.config.model_type, kind, whole.config._attn_implementation)
    parts = ranges(count_blocks(whole.config), cut, tail)
    twins = _twins(whole)
    pieces = tuple(_piece(whole, kind, part, copy_weights=copy_weights) for part in parts)
    for piece in pieces:
        piece.tied = tied_elsewhere(piece, twins)
    return pieces


def split_pretrained(
    name: str | Path, *, task: str, part: str, cut: int, tail: int = 0, **options: Any
) -> Piece:
    """One `part` (head, body or tail) of a checkpoint; only its tensors are read.

    `name` is a folder, an alias of `splitfl list models` or a name on the Hugging Face hub; `task` is
    causal-lm, sequence-classification, token-classification or image-classification. `options` are those of
    `splitfl.models.load.load_piece`: num_labels, pad_token_id, dtype, attention, seed, device, quantisation.

    Raises ModelMissing for absent or damaged weights, CutError for a model that cannot be cut.
    """
    folder = name if isinstance(name, Path) else resolve(name)
    settings = {key: options[key] for key in ("num_labels", "pad_token_id") if key in options}
    config = read_config(folder, task, options.get("attention", "sdpa"), **settings)
    parts = dict(zip(PARTS, ranges(count_blocks(config), cut, tail), strict=False))
    one_of("part", part, parts)
    blocks = parts[part]
    return load_piece(folder, task, blocks.start, blocks.stop, **options)


def _task_model(model: nn.Module) -> PreTrainedModel:
    """The transformers model, without peft's wrapper if it has one."""
    if isinstance(model, PeftModel) and model.active_peft_config.is_prompt_learning:
        kind = model.active_peft_config.peft_type.value
        raise CutError(
            f"a model with {kind} of peft cannot be split: its learned prompt stands in no block; use LoRA "
            "or another adapter of modules"
        )
    unwrapped = getattr(model, "get_base_model", lambda: model)()
    if not isinstance(unwrapped, PreTrainedModel):
        raise CutError(
            f"only a transformers or peft model can be split, got an object of type {type(model).__name__}"
        )
    return unwrapped


def _kind_of(model: PreTrainedModel) -> str:
    model_type, name = model.config.model_type, type(model).__name__
    for kind, names in _CLASS_NAMES.items():
        if names.get(model_type) == name:
            return kind
    is_wrapper = model_type in FAMILIES and FAMILIES[model_type].texts
    if is_wrapper and modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(model_type) == name:
        return CAUSAL_LM
    known = ", ".join(_CLASS_NAMES)
    raise CutError(f"a {name} cannot be split: load the model of type {model_type} for {known}")


def _refuse_spread(model: PreTrainedModel) -> None:
    if getattr(model, "quantization_method", None) is not None or getattr(model, "is_quantized", False):
        raise CutError("a quantised model cannot be split: load it without quantisation")
    devices = sorted({str(value.device) for value in model.parameters()})
    if len(devices) > 1:
        raise CutError(f"a model on several devices ({', '.join(devices)}) cannot be split: move it to one")


def _twins(model: PreTrainedModel) -> dict[str, set[str]]:
    """For every parameter name, all names of the same parameter."""
    groups: dict[int, set[str]] = {}
    for name, value in model.named_parameters(remove_duplicate=False):
        groups.setdefault(id(value), set()).add(name)
    return {name: group for group in groups.values() for name in group}


def _piece(whole: PreTrainedModel, kind: str, blocks: range, *, copy_weights: bool) -> Piece:
    """A piece of a structural copy of the model, which shares its tensors unless `copy_weights`."""
    shared: dict[int, Any] = {id(value): value for value in (*whole.parameters(), *whole.buffers())}
    model = copy.deepcopy(whole, shared)
    model.config.use_cache = block_config(model.config).use_cache = False
    if kind == CAUSAL_LM:
        model.loss_type = "ForCausalLM"
    piece = Piece(model, kind, blocks.start, blocks.stop)
    if not ((piece.is_first and piece.is_last) or piece.family.decoder):
        piece.model.config.tie_word_embeddings = False
    return copy.deepcopy(piece) if copy_weights else piece
