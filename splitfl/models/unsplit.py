"""The whole task model of a configuration, by transformers' own classes."""

import copy
from collections.abc import Callable
from typing import Any, cast

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PretrainedConfig,
    PreTrainedModel,
)

from splitfl.models.checkpoint.wide_tensors import keep_in_float32
from splitfl.models.families import (
    CAUSAL_LM,
    FAMILIES,
    IMAGE_CLASSIFICATION,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    block_config,
    check,
)
from splitfl.models.feature_maps import check_dtype, put_cifar_stem, stem_of
from splitfl.models.uninitialised import Uninitialised
from splitfl.models.untrained.small_net import SmallNetForImageClassification

_CLASSES: dict[str, Any] = {
    CAUSAL_LM: AutoModelForCausalLM,
    SEQ2SEQ_LM: AutoModelForSeq2SeqLM,
    SEQUENCE_CLASSIFICATION: AutoModelForSequenceClassification,
    TOKEN_CLASSIFICATION: AutoModelForTokenClassification,
    IMAGE_CLASSIFICATION: AutoModelForImageClassification,
}
_OWN: dict[str, Any] = {"small_net": SmallNetForImageClassification}
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def auto_class(model_type: str, kind: str) -> Any:
    """The class of transformers that loads models of this type for this kind of task."""
    if kind == CAUSAL_LM and FAMILIES[model_type].texts:
        return AutoModelForImageTextToText
    return _CLASSES[kind]


def build(
    config: PretrainedConfig, kind: str, *, dtype: str = "float32", attention: str = "sdpa"
) -> PreTrainedModel:
    """The whole task model without weights (on the meta device), ready to be cut."""
    family = check(config.model_type, kind, attention)
    config = copy.deepcopy(config)
    config.use_cache = block_config(config).use_cache = False
    vars(config).pop("quantization_config", None)  # the model has plain modules until it is materialised
    if family.hands_pictures:
        attention = "eager"  # convolutions have none, and Swin no other
        check_dtype(config.model_type, dtype)
    if kind == CAUSAL_LM and family.is_encoder:
        config.is_decoder = True
    with torch.device("meta"), Uninitialised():
        model = _made_by(config, kind)(config, attn_implementation=attention, dtype=DTYPES[dtype])
        if config.model_type == "resnet" and stem_of(config) == "cifar":
            put_cifar_stem(model)
    keep_in_float32(model)
    if kind == CAUSAL_LM:
        model.loss_type = "ForCausalLM"  # transformers cannot tell it from every class's name, and warns
    return cast(PreTrainedModel, model)


def _made_by(config: PretrainedConfig, kind: str) -> Callable[..., Any]:
    own = _OWN.get(config.model_type)
    make = auto_class(config.model_type, kind).from_config if own is None else own._from_config
    return cast(Callable[..., Any], make)
