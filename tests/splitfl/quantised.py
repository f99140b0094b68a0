"""Tiny checkpoints as transformers saves them with torchao's weight-only quantisation, without torchao."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

GROUP = 8
"""The group size of int4, which divides every row of the tiny models."""


def quantise(folder: Path, bits: int) -> Path:
    """Quantises the linear modules of the blocks of a float checkpoint in place."""
    stored = load_file(folder / "model.safetensors")
    for name in [name for name in stored if is_quantised(name, stored[name])]:
        weight, own = stored.pop(name), name.removesuffix(".weight")
        rows = weight.unflatten(1, (-1, GROUP if bits == 4 else weight.shape[1]))
        scale = rows.abs().amax(-1) / (2 ** (bits - 1) - 1)
        stored[f"{own}._weight_qdata"] = (rows / scale[..., None]).round().to(torch.int8).flatten(1)
        stored[f"{own}._weight_scale"] = scale
        stored[f"{own}._weight_zero_point"] = torch.zeros_like(scale, dtype=torch.int8)
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    return configure(folder, settings(bits))


def dequantise(folder: Path) -> Path:
    """Replaces the quantised modules of a checkpoint by float ones of the same values, in place."""
    stored = load_file(folder / "model.safetensors")
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


def settings(bits: int) -> dict[str, Any]:
    """The `quantization_config` that transformers 5.23 writes with torchao 0.18."""
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
    return {"quant_method": "torchao", "quant_type": {"default": int8 if bits == 8 else int4}}


def is_quantised(name: str, value: Tensor) -> bool:
    """Whether this is the weight of a linear module of the blocks."""
    return value.ndim == 2 and ".layer" in name and name.endswith(".weight")
