"""Validation of a checkpoint's config.json before transformers uses it.

Refuses checkpoints of other quantisation methods than those of quantised_checkpoint.py, with the name of the
method, and fields from which no model can be built.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from transformers import PretrainedConfig

from splitfl.core.errors import CutError, ModelMissing
from splitfl.models.checkpoint.checkpoint_file import of_adapter
from splitfl.models.checkpoint.quantised_checkpoint import name_of_torchao, stored_quantisation

_QUANTISED: Final = ("quantization_config", "compression_config", "quantization")
"""Keys of config.json: of transformers, of compressed-tensors before it, and of MLX."""
_QUANTISED_FILES: Final = {
    "quantize_config.json": "gptq",
    "quant_config.json": "awq",
    "hf_quant_config.json": "modelopt",
}
_WHOLE_NUMBERS: Final = (
    "num_hidden_layers",
    "num_attention_heads",
    "hidden_size",
    "vocab_size",
    "max_position_embeddings",
    "num_channels",
    "embedding_size",
    "kernel_size",
)
_RELATIVE: Final = ("relative_key", "relative_key_query")
_SQUARES: Final = ("image_size", "patch_size")


def config_table(folder: Path) -> dict[str, Any]:
    """The config.json of a checkpoint.

    Raises ModelMissing if it is not the configuration of a model, CutError for weights that are quantised by
    an unsupported method.
    """
    path = folder / "config.json"
    if not path.is_file():
        raise ModelMissing(f"{folder} has no config.json, and is no Hugging Face model{of_adapter(folder)}")
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelMissing(f"{path} is not the configuration of a Hugging Face model: {error}") from None
    if not isinstance(table, dict):
        raise ModelMissing(f"{path} must be an object of JSON, got {type(table).__name__}")
    if not isinstance(model_type := table.get("model_type"), str):
        raise ModelMissing(f"{path}: model_type must be a string, got {model_type!r}")
    _refuse_quantised(folder, table)
    return table


def not_of(path: Path, model_type: str, error: Exception) -> ModelMissing:
    """An error with the message of transformers about the fields of a config.json, on one line."""
    reason = " ".join(str(error).split())
    return ModelMissing(
        f"{path} is not the configuration of a {model_type} model: {type(error).__name__}: {reason}"
    )


def check_numbers(path: Path, config: PretrainedConfig) -> None:
    """Checks that sizes are whole numbers of at least 1; replaces a pair of equal image sides by one number.

    Raises ModelMissing with the file and the field's name in it, also for BERT's relative positions, and
    CutError for images that are not square.
    """
    for name in _SQUARES:
        value = getattr(config, name, None)
        if isinstance(value, (list, tuple)):
            if len(value) != 2 or value[0] != value[1]:
                raise CutError(f"{path}: {name} must be that of a square image, got {value!r}")
            setattr(config, name, value[0])
    if (positions := getattr(config, "position_embedding_type", "absolute")) in _RELATIVE:
        raise ModelMissing(
            f"{path}: position_embedding_type must be 'absolute', got {positions!r}, which transformers does "
            "not compute any more"
        )
    has_windows = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    windows = ("sliding_window",) if has_windows else ()
    for name in (*_WHOLE_NUMBERS, *_SQUARES, *windows):
        if not hasattr(config, name):
            continue
        value, written = getattr(config, name), config.attribute_map.get(name, name)
        is_of_stages = hasattr(config, "depths") and isinstance(value, (list, tuple))
        each = value if is_of_stages else [value]
        if any(not isinstance(one, int) or isinstance(one, bool) or one < 1 for one in each):
            raise ModelMissing(f"{path}: {written} must be a whole number of at least 1, got {value!r}")


def refuse_router_loss(source: str, config: PretrainedConfig) -> None:
    """Raises CutError for a model whose loss depends on the routers of all blocks."""
    if getattr(config, "output_router_logits", False):
        raise CutError(
            f"{source}: output_router_logits must be false, got true: it adds a loss for the balance of the "
            "experts of all blocks, which no piece has"
        )


def _refuse_quantised(folder: Path, table: Mapping[str, Any]) -> None:
    path = folder / "config.json"
    for key in _QUANTISED:
        if (settings := table.get(key)) and stored_quantisation(settings) is None:
            raise _quantised(f"{path} ({key})", _method(key, settings))
    for name, method in _QUANTISED_FILES.items():
        if (folder / name).is_file():
            raise _quantised(str(folder / name), method)


def _method(key: str, settings: object) -> str:
    """The name of the quantisation method, inferred from the keys in older files without a name."""
    if not isinstance(settings, Mapping):
        return repr(settings)
    method, form = settings.get("quant_method"), settings.get("format")
    if method == "torchao":
        form = name_of_torchao(settings)
    if method == "bitsandbytes":
        form = settings.get("bnb_4bit_quant_type") if settings.get("load_in_4bit") else "int8"
    if not method and ("load_in_8bit" in settings or "load_in_4bit" in settings):
        method = "bitsandbytes"
    elif not method and key != "quantization_config":
        method = {"compression_config": "compressed-tensors", "quantization": "mlx"}[key]
    return f"{method or 'an unnamed method'}{f' ({form})' if form else ''}"


def _quantised(where: str, method: str) -> CutError:
    return CutError(
        f"the checkpoint is quantised by {method} according to {where}, and only weights in float32, float16 "
        "or bfloat16, in bitsandbytes' nf4, or in torchao's int8 (Int8WeightOnlyConfig, per row) or int4 "
        "(IntxWeightOnlyConfig, PerGroup, symmetric), can be split: use the original model with "
        "model.quantization, or save it again after model.dequantize()"
    )
