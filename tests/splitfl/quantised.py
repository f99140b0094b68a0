"""Tiny checkpoints as transformers saves them quantised, made without torchao and bitsandbytes."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from splitfl.models.quantised import NF4_BLOCK, NF4_LEVELS

GROUP = 8
"""The group size of int4, which divides every row of the tiny models."""
FORMATS = ("int8", "int4", "nf4", "double")
"""`double` is nf4 with double quantisation."""
STATE = ".quant_state.bitsandbytes__nf4"


def quantise(folder: Path, form: str) -> Path:
    """Quantises the linear modules of the blocks of a float checkpoint in place."""
    stored = load_file(folder / "model.safetensors")
    bits = 8 if form == "int8" else 4
    for name in [name for name in stored if is_quantised(name, stored[name])]:
        weight, own = stored.pop(name), name.removesuffix(".weight")
        if not form.startswith("int"):
            stored |= {
                name + suffix: part for suffix, part in nf4(weight, is_double=form == "double").items()
            }
            continue
        rows = weight.unflatten(1, (-1, GROUP if bits == 4 else weight.shape[1]))
        scale = rows.abs().amax(-1) / (2 ** (bits - 1) - 1)
        stored[f"{own}._weight_qdata"] = (rows / scale[..., None]).round().to(torch.int8).flatten(1)
        stored[f"{own}._weight_scale"] = scale
        stored[f"{own}._weight_zero_point"] = torch.zeros_like(scale, dtype=torch.int8)
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return configure(folder, settings(form))


def nf4(weight: Tensor, *, is_double: bool) -> dict[str, Tensor]:
    """The tensors of a weight in NF4, by what follows its name."""
    blocks = weight.view(-1, NF4_BLOCK)
    scale = blocks.abs().amax(1)
    codes = (blocks[..., None] / scale[:, None, None] - NF4_LEVELS).abs().argmin(-1).flatten().to(torch.uint8)
    table = {"quant_type": "nf4", "blocksize": NF4_BLOCK, "dtype": "float32", "shape": list(weight.shape)}
    found = {"": (codes[::2] << 4 | codes[1::2])[:, None], ".absmax": scale, ".quant_map": NF4_LEVELS.clone()}
    if is_double:
        levels, offset = torch.linspace(-1, 1, 256), scale.mean()
        largest = (scale - offset).abs().amax()
        found[".absmax"] = ((scale - offset)[:, None] / largest - levels).abs().argmin(1).to(torch.uint8)
        found |= {".nested_absmax": largest[None], ".nested_quant_map": levels}
        table |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset.item()}
    return found | {STATE: torch.tensor(list(json.dumps(table).encode()), dtype=torch.uint8)}


def dequantised_nf4(stored: dict[str, Tensor], name: str) -> Tensor:
    """The weight of this name, whose tensors are taken out of `stored`."""
    packed, scale, _ = (stored.pop(name + suffix) for suffix in ("", ".absmax", ".quant_map"))
    table = json.loads(bytes(stored.pop(name + STATE).tolist()))
    if "nested_offset" in table:
        levels, largest = (stored.pop(f"{name}.nested_{suffix}") for suffix in ("quant_map", "absmax"))
        scale = levels[scale.int()] * largest + table["nested_offset"]
    levels = NF4_LEVELS[torch.cat([packed >> 4, packed & 15], 1).flatten().int()]
    return (levels.view(-1, NF4_BLOCK) * scale[:, None]).view(table["shape"])


def dequantise(folder: Path) -> Path:
    """Replaces the quantised modules of a checkpoint by float ones of the same values, in place."""
    stored = load_file(folder / "model.safetensors")
    for key in [key for key in stored if key.endswith(STATE)]:
        name = key.removesuffix(STATE)
        stored[name] = dequantised_nf4(stored, name)
    for name in [name for name in stored if name.endswith("._weight_qdata")]:
        own = name.removesuffix("._weight_qdata")
        values, scale = stored.pop(name).float(), stored.pop(f"{own}._weight_scale")
        del stored[f"{own}._weight_zero_point"]
        rows = values.unflatten(1, (scale.shape[1], -1)) * scale[..., None]
        stored[f"{own}.weight"] = rows.flatten(1).contiguous()
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return configure(folder, None)


def configure(folder: Path, quantisation: object) -> Path:
    """Sets or removes the `quantization_config` of a checkpoint."""
    table = json.loads((folder / "config.json").read_text())
    table["quantization_config"] = quantisation
    (folder / "config.json").write_text(json.dumps(table))
    return folder


def settings(form: str) -> dict[str, Any]:
    """The `quantization_config` that transformers 5.23 writes with torchao 0.18 and bitsandbytes 0.50."""
    if not form.startswith("int"):
        return {
            "quant_method": "bitsandbytes",
            "load_in_4bit": True,
            "load_in_8bit": False,
            "bnb_4bit_compute_dtype": "float32",
            "bnb_4bit_quant_storage": "uint8",
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": form == "double",
        }
    int8 = {
        "_type": "Int8WeightOnlyConfig",
        "_version": 2,
        "_data": {
            "granularity": {"_type": "PerRow", "_version": 1, "_data": {"dim": -1}},
            "group_size": None,
            "set_inductor_config": True,
        },
    }
    int4 = {
        "_type": "IntxWeightOnlyConfig",
        "_version": 2,
        "_data": {
            "granularity": {"_type": "PerGroup", "_version": 1, "_data": {"group_size": GROUP}},
            "intx_choose_qparams_algorithm": {"_type": "IntxChooseQParamsAlgorithm", "_data": "AFFINE"},
            "intx_packing_format": {"_type": "IntxPackingFormat", "_data": "UNPACKED_TO_INT8"},
            "mapping_type": {"_type": "MappingType", "_data": "SYMMETRIC"},
            "scale_dtype": None,
            "weight_dtype": {"_type": "torch.dtype", "_data": "int4"},
        },
    }
    return {"quant_method": "torchao", "quant_type": {"default": int8 if form == "int8" else int4}}


def is_quantised(name: str, value: Tensor) -> bool:
    """Whether this is the weight of a linear module of the blocks."""
    return value.ndim == 2 and ".layer" in name and name.endswith(".weight")
