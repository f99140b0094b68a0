"""The model families that can be split, one row each, keyed by `config.model_type`.

A row only names modules; the computation stays transformers' own code. Models outside the
table are refused: module paths that happen to exist do not ensure exactness.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from splitfl.config import nearest, one_of
from splitfl.core.errors import CutError
from splitfl.models.family import (
    CAUSAL_LM,
    IMAGE_CLASSIFICATION,
    KINDS,
    LANGUAGE_MODELS,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    Family,
)
from splitfl.models.family_rows.encoder_decoders import ENCODER_DECODERS
from splitfl.models.family_rows.images import IMAGE_FAMILIES
from splitfl.models.family_rows.refused import REFUSED
from splitfl.models.family_rows.wrappers import WRAPPERS

__all__ = [
    "CAUSAL_LM",
    "FAMILIES",
    "IMAGE_CLASSIFICATION",
    "KINDS",
    "LANGUAGE_MODELS",
    "SEQ2SEQ_LM",
    "SEQUENCE_CLASSIFICATION",
    "TOKEN_CLASSIFICATION",
    "Family",
    "base_path",
    "block_config",
    "block_index",
    "check",
    "count_blocks",
    "family_of",
    "is_inside",
]

_BERT = Family(
    blocks="encoder.layer",
    before=("embeddings",),
    after=("pooler",),
    reads=("query", "key", "value"),
    targets=("query", "value"),
    kinds=(CAUSAL_LM, SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION),
    pools_last=False,
    is_encoder=True,
    separates_packed=False,
)
_ROBERTA = replace(_BERT, offsets_positions=True)
_LLAMA = Family(
    blocks="layers",
    before=("embed_tokens",),
    after=("norm",),
    reads=("q_proj", "k_proj", "v_proj"),
    targets=("q_proj", "v_proj"),
)
_LLAMA_LM = replace(_LLAMA, kinds=(CAUSAL_LM,))
_EXPERTS = replace(
    _LLAMA, forward_mode="the grouped products of its experts have a derivative in backward mode only"
)
_EXPERTS_LM = replace(_EXPERTS, kinds=(CAUSAL_LM,))
_GPT2 = Family(
    blocks="h",
    before=("wte", "wpe"),
    after=("ln_f",),
    reads=("c_attn",),
    targets=("c_attn",),
    fan_in_fan_out=True,
)
_BLOOM = Family(
    blocks="h",
    before=("word_embeddings", "word_embeddings_layernorm"),
    after=("ln_f",),
    reads=("query_key_value",),
    targets=("query_key_value",),
    attentions=("eager",),
    separates_packed=False,
    num_returned=2,
)
_GPT_NEO = replace(
    _GPT2,
    reads=("q_proj", "k_proj", "v_proj"),
    targets=("q_proj", "v_proj"),
    attentions=("eager",),
    fan_in_fan_out=False,
    num_returned=2,
)
_MAMBA = Family(
    blocks="layers",
    before=("embeddings",),
    after=("norm_f",),
    reads=("in_proj",),
    targets=("in_proj",),
    kinds=(CAUSAL_LM,),
    attentions=("eager",),
    separates_packed=False,
    bypassed=("dt_proj", "out_proj"),
)
FAMILIES: dict[str, Family] = {
    "bert": _BERT,
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "electra": replace(_BERT, before=("embeddings", "embeddings_project"), after=()),
    "distilbert": Family(
        blocks="transformer.layer",
        before=("embeddings",),
        after=(),
        reads=("q_lin", "k_lin", "v_lin"),
        targets=("q_lin", "v_lin"),
        kinds=(SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION),
        pools_last=False,
    ),
    "gpt2": _GPT2,
    "gpt_bigcode": replace(_GPT2, fan_in_fan_out=False),
    "opt": Family(
        blocks="decoder.layers",
        before=("decoder.embed_tokens", "decoder.embed_positions", "decoder.project_in"),
        after=("decoder.final_layer_norm", "decoder.project_out"),
        reads=("q_proj", "k_proj", "v_proj"),
        targets=("q_proj", "v_proj"),
        separates_packed=False,
    ),
    "llama": _LLAMA,
    "mistral": _LLAMA,
    "qwen2": _LLAMA,
    "qwen3": _LLAMA,
    "phi": replace(_LLAMA, after=("final_layernorm",), is_parallel=True),
    "phi3": replace(_LLAMA, reads=("qkv_proj",), targets=("qkv_proj",)),
    "olmo": _LLAMA,
    "olmo2": _LLAMA,
    "olmo3": _LLAMA,
    "granite": _LLAMA_LM,
    "starcoder2": _LLAMA,
    "smollm3": _LLAMA,
    "gemma": _LLAMA,
    "cohere": replace(_LLAMA_LM, is_parallel=True),
    "cohere2": replace(_LLAMA_LM, is_parallel=True),
    "glm": _LLAMA,
    "glm4": _LLAMA,
    "ministral": _LLAMA,
    "ministral3": _LLAMA,
    "exaone4": _LLAMA,
    "seed_oss": _LLAMA,
    "helium": _LLAMA,
    "apertus": _LLAMA_LM,
    "arcee": _LLAMA,
    "ernie4_5": _LLAMA_LM,
    "hunyuan_v1_dense": _LLAMA,
    "bitnet": _LLAMA_LM,
    "stablelm": _LLAMA,
    "nanochat": replace(_LLAMA_LM, norms_embeddings=True),
    "modernbert-decoder": replace(_LLAMA, before=("embeddings",), after=("final_norm",)),
    "gemma2": replace(_LLAMA, attentions=("eager",)),  # sdpa has no soft-capped scores
    "gemma3_text": _LLAMA,
    "gpt_neox": Family(
        blocks="layers",
        before=("embed_in",),
        after=("final_layer_norm",),
        reads=("query_key_value",),
        targets=("query_key_value",),
    ),
    "mixtral": _EXPERTS,
    "qwen2_moe": _EXPERTS,
    "qwen3_moe": _EXPERTS,
    "olmoe": _EXPERTS_LM,
    "phimoe": _EXPERTS,
    "granitemoe": _EXPERTS_LM,
    "ernie4_5_moe": _EXPERTS_LM,
    "dots1": _EXPERTS_LM,
    "glm4_moe": _EXPERTS_LM,
    "gpt_oss": replace(_EXPERTS, attentions=("eager",), separates_packed=False),
    "deepseek_v3": replace(_EXPERTS, reads=("q_", "kv_"), targets=("kv_b_proj", "o_proj")),
    "gpt_neo": _GPT_NEO,
    "gptj": replace(_GPT_NEO, before=("wte",), is_parallel=True),
    "bloom": replace(_BLOOM, forward_mode="its activation has a derivative in backward mode only"),
    "falcon": replace(
        _BLOOM, before=("word_embeddings",), attentions=("sdpa", "eager"), linear="FalconLinear"
    ),
    "mpt": replace(
        _BLOOM, blocks="blocks", before=("wte",), after=("norm_f",), reads=("Wqkv",), targets=("Wqkv",)
    ),
    "mamba": _MAMBA,
    "mamba2": _MAMBA,
    "modernbert": replace(
        _BERT,
        blocks="layers",
        after=("final_norm",),
        reads=("Wqkv",),
        targets=("Wqkv",),
        kinds=(SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION),
        is_encoder=False,
        attributes=("attention_type",),
    ),
    "deberta-v2": replace(
        _BERT,
        after=(),
        reads=("query_proj", "key_proj", "value_proj"),
        targets=("query_proj", "value_proj"),
        kinds=(SEQUENCE_CLASSIFICATION, TOKEN_CLASSIFICATION),
        attentions=("eager",),
        is_encoder=False,
        num_returned=2,
        with_first=("encoder.conv",),
        shared=("encoder.rel_embeddings", "encoder.LayerNorm"),
    ),
    **WRAPPERS,
    **ENCODER_DECODERS,
    **IMAGE_FAMILIES,
}


def family_of(model_type: str) -> Family:
    """The row of this model type. Raises CutError with the reason, or the nearest and all known types."""
    if model_type in REFUSED:
        raise CutError(f"cannot cut a model of type {model_type!r}: {REFUSED[model_type]}")
    if model_type not in FAMILIES:
        guess = nearest(model_type, FAMILIES)
        raise CutError(f"cannot cut a model of type {model_type!r};{guess} have {', '.join(FAMILIES)}")
    return FAMILIES[model_type]


def block_config(config: Any) -> Any:
    """The configuration of the blocks, which is inside that of a model of several modalities."""
    nested = family_of(config.model_type).nested
    return getattr(config, nested) if nested else config


def base_path(model: Any) -> str:
    """The path of the base model, without task head, in a model of a known type; "" for the model itself."""
    path = family_of(model.config.model_type).base
    return str(model.base_model_prefix) if path is None else path


def is_inside(model: Any, name: str, paths: Iterable[str]) -> bool:
    """Whether a module or tensor of this name is, or is in, one of the modules at these paths of the base."""
    base = base_path(model)
    whole = [f"{base}.{path}" if base else path for path in paths]
    return any(f"{name}.".startswith(f"{path}.") for path in whole)


def count_blocks(config: Any) -> int:
    """The number of blocks of a model; the blocks of a ResNet or ConvNeXt are its stages."""
    config = block_config(config)
    return len(config.depths) if hasattr(config, "depths") else int(config.num_hidden_layers)


def block_index(family: Family, name: str) -> int | None:
    """The index of the block of a tensor or module; None outside blocks."""
    found = re.search(rf"(?:^|\.){re.escape(family.blocks)}\.(\d+)(?:\.|$)", name)
    return int(found[1]) if found else None


def check(model_type: str, kind: str, attention: str) -> Family:
    """The row of this model type. Raises CutError if it does not support this task or attention."""
    family = family_of(model_type)
    one_of("kind of model", kind, KINDS)
    if kind not in family.kinds:
        raise CutError(f"a {model_type} model does not support {kind}; have {', '.join(family.kinds)}")
    if attention not in family.attentions:
        allowed = " or ".join(family.attentions)
        raise CutError(f"a {model_type} model does not support attention {attention!r}; set it to {allowed}")
    return family
