"""Tiny models of every family, with random weights, saved the way real checkpoints are."""

# B batch, T tokens, V vocabulary

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from splitfl.models.families import (
    CAUSAL_LM,
    FAMILIES,
    IMAGE_CLASSIFICATION,
    SEQ2SEQ_LM,
    SEQUENCE_CLASSIFICATION,
    TOKEN_CLASSIFICATION,
    block_config,
)
from splitfl.models.unsplit import auto_class
from tests.quick import quick

BLOCKS, BATCH, TOKENS, VOCABULARY, LABELS, PADDING = 4, 3, 12, 61, 5, 1
ANSWER = 7
"""The tokens of an answer of an encoder-decoder."""
CASES = [
    (model_type, kind)
    for model_type, family in FAMILIES.items()
    for kind in family.kinds
    if model_type not in ("resnet", "small_net")  # see test_feature_maps.py
]
SHOWN = ("bert", "roberta", "distilbert", "gpt2", "opt", "llama", "mistral", "gemma2", "gemma3_text", "vit")
"""Families that are tested with every cut and with packed texts; the others with fewer."""
SOME = quick(
    CASES,
    ("bert", "token-classification"),
    ("gpt2", "sequence-classification"),
    ("opt", "sequence-classification"),
    ("llama", "causal-lm"),
    ("vit", "image-classification"),
)
"""All cases, of which the quick suite has these."""
_FILES: dict[str, dict[str, bytes]] = {}
PADDINGS = ("none", "left", "right")

_SPECIAL = {"pad_token_id": PADDING, "bos_token_id": 2, "eos_token_id": 3}
_SIZES: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": BLOCKS,
    "num_attention_heads": 4,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 40,
    **_SPECIAL,
}
_ROTARY = {**_SIZES, "num_key_value_heads": 2, "head_dim": 8}
_WINDOWED = {**_ROTARY, "sliding_window": 5}
_EXPERTS = {**_ROTARY, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24}
_GPT2: dict[str, Any] = {
    "n_embd": 32,
    "n_layer": BLOCKS,
    "n_head": 4,
    "n_positions": 40,
    "vocab_size": VOCABULARY,
    **_SPECIAL,
}
_STATES = {
    "hidden_size": 32,
    "num_hidden_layers": BLOCKS,
    "vocab_size": VOCABULARY,
    "state_size": 8,
    **_SPECIAL,
}
_PICTURES = {**_SIZES, "image_size": 12, "patch_size": 4, "num_channels": 3}
_STAGES = {**_PICTURES, "patch_size": 1, "hidden_sizes": [8, 12, 16, 20], "depths": [1, 1, 1, 1]}
_LLAMAS = (
    "olmo",
    "olmo2",
    "granite",
    "smollm3",
    "gemma",
    "cohere",
    "glm",
    "glm4",
    "ministral3",
    "seed_oss",
    "helium",
    "apertus",
    "arcee",
    "ernie4_5",
    "hunyuan_v1_dense",
    "bitnet",
    "nanochat",
)
"""Families of Llama's shape, of whose configuration nothing else need be said."""
_TOWER = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "image_size": 8,
    "patch_size": 4,
    "num_channels": 3,
}
_QWEN_TOWER = {"depth": 1, "embed_dim": 16, "hidden_size": 32, "num_heads": 2, "patch_size": 4}
_QWEN_TEXT = {**_ROTARY, "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2]}}
_GEMMA3 = {**_WINDOWED, "query_pre_attn_scalar": 8, "sliding_window_pattern": 2}
_T5 = {
    "d_model": 32,
    "d_kv": 6,
    "d_ff": 48,
    "num_layers": BLOCKS,
    "num_decoder_layers": 2,
    "num_heads": 4,
    "vocab_size": VOCABULARY,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "decoder_start_token_id": 0,
    **_SPECIAL,
}
_BART = {
    "d_model": 32,
    "encoder_layers": BLOCKS,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 40,
    "decoder_start_token_id": 3,
    **_SPECIAL,
}


def _wrapper(
    text: dict[str, Any], tower: dict[str, Any], text_type: str = "", **further: Any
) -> dict[str, Any]:
    named = {"model_type": text_type} if text_type else {}
    return {"text_config": {**text, **named}, "vision_config": tower, "image_token_id": 60, **further}


_SETTINGS: dict[str, dict[str, Any]] = {
    "bert": _SIZES,
    "roberta": _SIZES,
    "distilbert": {
        "dim": 32,
        "hidden_dim": 48,
        "n_layers": BLOCKS,
        "n_heads": 4,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 40,
        "pad_token_id": PADDING,
    },
    "gpt2": _GPT2,
    "opt": {**_SIZES, "ffn_dim": 48, "word_embed_proj_dim": 16},
    "llama": _ROTARY,
    "mistral": _WINDOWED,
    "qwen2": {**_WINDOWED, "use_sliding_window": True, "max_window_layers": 2},
    "qwen3": _ROTARY,
    "gemma2": {**_WINDOWED, "query_pre_attn_scalar": 8},
    "gemma3_text": {**_WINDOWED, "query_pre_attn_scalar": 8, "sliding_window_pattern": 2},
    "gpt_neox": {**_SIZES, "rotary_pct": 0.5},
    **dict.fromkeys(("xlm-roberta", "camembert"), _SIZES),
    "electra": {**_SIZES, "embedding_size": 16},
    "gpt_bigcode": {**_GPT2, "multi_query": True},
    **dict.fromkeys(_LLAMAS, _ROTARY),
    "phi": {**_ROTARY, "partial_rotary_factor": 0.5},
    "stablelm": {**_ROTARY, "partial_rotary_factor": 0.5},
    "phi3": _WINDOWED,
    "olmo3": _WINDOWED,
    "starcoder2": _WINDOWED,
    "cohere2": {**_WINDOWED, "sliding_window_pattern": 2},
    "ministral": _WINDOWED,
    "exaone4": {**_WINDOWED, "sliding_window_pattern": 2},
    "modernbert-decoder": {**_SIZES, "local_attention": 6, "global_attn_every_n_layers": 2},
    "mixtral": {**_EXPERTS, "num_local_experts": 4},
    "qwen2_moe": {**_EXPERTS, "shared_expert_intermediate_size": 16},
    **dict.fromkeys(("qwen3_moe", "olmoe"), _EXPERTS),
    "phimoe": {**_EXPERTS, "num_local_experts": 4},
    "granitemoe": {**_EXPERTS, "num_local_experts": 4},
    "gpt_oss": {**_EXPERTS, "num_local_experts": 4, "sliding_window": 5},
    "ernie4_5_moe": {**_EXPERTS, "moe_num_experts": 4, "moe_k": 2, "moe_layer_start_index": 1},
    "dots1": {
        **_EXPERTS,
        "n_shared_experts": 1,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "glm4_moe": {
        **_EXPERTS,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
    },
    "deepseek_v3": {
        **_EXPERTS,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 16,
        "kv_lora_rank": 16,
        "qk_rope_head_dim": 4,
        "qk_nope_head_dim": 8,
        "v_head_dim": 6,
        "head_dim": 4,
    },
    "gpt_neo": {
        "hidden_size": 32,
        "vocab_size": VOCABULARY,
        "max_position_embeddings": 40,
        **_SPECIAL,
        "num_layers": BLOCKS,
        "num_heads": 4,
        "attention_types": [[["global", "local"], BLOCKS // 2]],
        "window_size": 5,
    },
    "gptj": {**_GPT2, "rotary_dim": 4},
    "bloom": {**_GPT2, "hidden_size": 32},
    "falcon": {**_SIZES, "new_decoder_architecture": True, "num_kv_heads": 2},
    "mpt": {**_SIZES, "d_model": 32, "n_heads": 4, "n_layers": BLOCKS, "max_seq_len": 40},
    "mamba": {**_STATES, "time_step_rank": 4},
    "mamba2": {**_STATES, "head_dim": 16, "num_heads": 4, "n_groups": 2, "chunk_size": 8},
    "modernbert": {**_SIZES, "local_attention": 6, "global_attn_every_n_layers": 2},
    "deberta-v2": {
        **_SIZES,
        "relative_attention": True,
        "position_buckets": 4,
        "pos_att_type": ["c2p", "p2c"],
        "share_att_key": True,
        "norm_rel_ebd": "layer_norm",
        "position_biased_input": False,
        "type_vocab_size": 0,
        "conv_kernel_size": 3,
    },
    "gemma3": _wrapper(_GEMMA3, _TOWER, mm_tokens_per_image=4),
    "qwen2_vl": _wrapper(_QWEN_TEXT, _QWEN_TOWER),
    "qwen2_5_vl": _wrapper(_QWEN_TEXT, {**_QWEN_TOWER, "hidden_size": 16, "out_hidden_size": 32}),
    "qwen3_vl": _wrapper(
        _QWEN_TEXT, {**_QWEN_TOWER, "hidden_size": 16, "out_hidden_size": 32, "deepstack_visual_indexes": [0]}
    ),
    "llava": _wrapper(_ROTARY, _TOWER, "llama"),
    "llava_next": _wrapper(_WINDOWED, _TOWER, "mistral"),
    "llava_onevision": _wrapper(_ROTARY, _TOWER, "qwen2"),
    "internvl": _wrapper(_ROTARY, {**_TOWER, "image_size": [8, 8], "patch_size": [4, 4]}, "qwen3"),
    "mistral3": _wrapper(_ROTARY, _TOWER, "ministral3"),
    "paligemma": _wrapper(_ROTARY, {**_TOWER, "projection_dim": 32}, "gemma"),
    **dict.fromkeys(("idefics3", "smolvlm"), _wrapper(_ROTARY, _TOWER, "llama")),
    **dict.fromkeys(("convnext", "convnextv2"), _STAGES),
    "vit": _PICTURES,
    **dict.fromkeys(("t5", "mt5", "umt5"), _T5),
    **dict.fromkeys(("bart", "mbart", "pegasus", "marian", "m2m_100", "blenderbot"), _BART),
    "swin": {
        "image_size": 12,
        "num_channels": 3,
        "patch_size": 1,
        "embed_dim": 8,
        "depths": [2, 1, 1, 1],
        "num_heads": [2] * 4,
        "window_size": 2,
    },
    "siglip": {"vision_config": _PICTURES},
    "clip": {"vision_config": {**_PICTURES, "projection_dim": 32}},
    "dinov2": _PICTURES,
}


def text_model(model_type: str) -> dict[str, Any]:
    """The configuration of a text model of this type, to be inside another one."""
    return {**_SETTINGS[model_type], "model_type": model_type}


def attention_of(model: str | Path) -> str:
    """`sdpa`, or what a family, or a checkpoint's, has in its place."""
    if isinstance(model, Path):
        model = json.loads((model / "config.json").read_text())["model_type"]
    return "eager" if FAMILIES[model].hands_pictures else FAMILIES[model].attentions[0]


def config(model_type: str, **changes: Any) -> PretrainedConfig:
    """A configuration of four blocks with sliding windows shorter than the text, where there are any."""
    settings = {**_SETTINGS[model_type], "num_labels": LABELS, "tie_word_embeddings": False, **changes}
    made = AutoConfig.for_model(model_type, **settings)
    assert isinstance(made, PretrainedConfig)
    return made


def whole(model_type: str, kind: str, **changes: Any) -> PreTrainedModel:
    """A stock model whose every stored tensor is random, norms, biases and buffers included."""
    settings = config(model_type, **changes)
    if kind == CAUSAL_LM and FAMILIES[model_type].is_encoder:
        settings.is_decoder = True
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = auto_class(model_type, kind).from_config(settings)
    assert isinstance(model, PreTrainedModel)
    chance = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for value in (*model.parameters(), *stored_buffers(model)):
            value += 0.1 * torch.randn(value.shape, generator=chance)
    return model


def stored_buffers(model: PreTrainedModel) -> list[Tensor]:
    """The buffers of numbers that a checkpoint holds, such as what corrects the choice of experts."""
    stored = model.state_dict().keys()
    return [value for name, value in model.named_buffers() if name in stored and value.is_floating_point()]


def save(folder: Path, model_type: str, kind: str, *, shard_bytes: int = 10**9, **changes: Any) -> Path:
    """A checkpoint of `whole`, in several files where it is larger than `shard_bytes`."""
    return write_copy(
        folder,
        repr((model_type, kind, shard_bytes, sorted(changes.items()))),
        lambda made: whole(model_type, kind, **changes).save_pretrained(made, max_shard_size=shard_bytes),
    )


def write_copy(folder: Path, key: str, write: Callable[[Path], object]) -> Path:
    """Files that `write` makes in an empty folder, once in a process for each `key`, copied to `folder`."""
    if key not in _FILES:
        with TemporaryDirectory() as made:
            write(Path(made))
            _FILES[key] = {path.name: path.read_bytes() for path in Path(made).iterdir()}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in _FILES[key].items():
        (folder / name).write_bytes(content)
    return folder


def stock(
    folder: Path, kind: str, dtype: str = "float32", attention: str = "sdpa", **changes: Any
) -> PreTrainedModel:
    """The unsplit model as transformers itself loads it.

    The loss of a classifier is the cross-entropy, which DeBERTa otherwise rounds differently.
    With eager attention it is told to keep no cache, as for training: a cache copies keys and
    values into another layout, which alone changes the last bits of GPT-2's and OPT's gradients.
    Weights are copied out of the mapped file, where they are not aligned: so are those of experts,
    whose grouped products then differ in the last bits.
    """
    attention = attention_of(folder) if attention == "sdpa" else attention
    dtype_of_torch = getattr(torch, dtype)
    model_type = json.loads((folder / "config.json").read_text())["model_type"]
    model = auto_class(model_type, kind).from_pretrained(
        folder, dtype=dtype_of_torch, attn_implementation=attention, **changes
    )
    assert isinstance(model, PreTrainedModel)
    for value in model.parameters():
        value.data = value.data.clone()
    if attention == "eager":
        model.config.use_cache = block_config(model.config).use_cache = False
    if kind == SEQUENCE_CLASSIFICATION and model.config.problem_type is None:
        model.config.problem_type = "single_label_classification"
    return model.eval()


def batch(kind: str, padding: str = "right", seed: int = 3) -> tuple[dict[str, Tensor], Tensor]:
    """Inputs and labels; row i has 3 i tokens of padding on the side that `padding` names."""
    chance = torch.Generator().manual_seed(seed)
    classes_B = torch.randint(0, LABELS, (BATCH,), generator=chance)
    if kind == IMAGE_CLASSIFICATION:
        return {"pixel_values": torch.randn(BATCH, 3, 12, 12, generator=chance)}, classes_B
    ids_BT = torch.randint(4, VOCABULARY, (BATCH, TOKENS), generator=chance)
    mask_BT = torch.ones_like(ids_BT)
    for row in range(BATCH if padding != "none" else 0):
        padded = slice(None, 3 * row) if padding == "left" else slice(TOKENS - 3 * row, None)
        mask_BT[row, padded] = 0
        ids_BT[row, padded] = PADDING
    if kind == SEQ2SEQ_LM:
        labels_BU = torch.randint(4, VOCABULARY, (BATCH, ANSWER), generator=chance)
        for row in range(BATCH):
            labels_BU[row, ANSWER - 2 * row :] = -100
        return {"input_ids": ids_BT, "attention_mask": mask_BT}, labels_BU
    if kind == TOKEN_CLASSIFICATION:
        return {"input_ids": ids_BT, "attention_mask": mask_BT}, _tags(mask_BT, chance)
    labels = torch.where(mask_BT == 1, ids_BT, -100) if kind == CAUSAL_LM else classes_B
    return {"input_ids": ids_BT, "attention_mask": mask_BT}, labels


def _tags(mask_BT: Tensor, chance: torch.Generator) -> Tensor:
    """Classes of tokens, -100 on padding, on the first column and on every third one."""
    tags_BT = torch.randint(0, LABELS, mask_BT.shape, generator=chance)
    tags_BT[mask_BT == 0] = -100
    tags_BT[:, ::3] = -100
    return tags_BT
