"""Checkpoints that transformers saved quantised: by torchao (int8 or int4 weight-only), or in NF4.

By torchao, the weight of a quantised module NAME is stored as NAME._weight_qdata, int8 (out, in) also for
int4, as NAME._weight_scale (out, groups), and NAME._weight_zero_point, which is zero: the quantisation is
symmetric. NF4 is described in nf4_checkpoint.py.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from transformers import PretrainedConfig

from splitfl.core.errors import CutError
from splitfl.models.checkpoint.checkpoint_file import Entry, read
from splitfl.models.checkpoint.nf4_checkpoint import grouped_nf4, is_nf4, read_nf4
from splitfl.models.quantised import NF4_BLOCK, Quantisation, QuantisedLinear, put

_QDATA, _SCALE, _ZERO_POINT = "._weight_qdata", "._weight_scale", "._weight_zero_point"


def stored_quantisation(settings: object) -> Quantisation | None:
    """The quantisation in a `quantization_config`, if it is one that is supported."""
    if isinstance(settings, Mapping) and is_nf4(settings):
        return Quantisation(format="nf4", group_size=NF4_BLOCK)
    try:
        default = settings["quant_type"]["default"]  # type: ignore[index]
        kind, values = default["_type"], default["_data"]
        granularity = values["granularity"]
        if (kind, granularity["_type"]) == ("Int8WeightOnlyConfig", "PerRow"):
            return Quantisation(format="int8")
        is_int4 = (kind, values["weight_dtype"]["_data"]) == ("IntxWeightOnlyConfig", "int4")
        is_symmetric = (values["mapping_type"]["_data"], granularity["_type"]) == ("SYMMETRIC", "PerGroup")
        if is_int4 and is_symmetric:
            return Quantisation(format="int4", group_size=granularity["_data"]["group_size"])
    except (KeyError, TypeError):
        pass
    return None


def is_quantised(config: PretrainedConfig) -> bool:
    """Whether the checkpoint of this configuration is quantised."""
    return getattr(config, "quantization_config", None) is not None


def name_of_torchao(settings: Mapping[str, Any]) -> str:
    """The class of torchao's settings in a `quantization_config`, as far as it says so."""
    kind = settings.get("quant_type")
    default = kind.get("default") if isinstance(kind, Mapping) else None
    return str(default.get("_type")) if isinstance(default, Mapping) else str(kind)


def grouped(stored: Mapping[str, Entry]) -> dict[str, Entry]:
    """The tensors by key, those of a quantised weight as one under NAME.weight, in parts.

    By torchao, the parts are integers, scales and, where they are stored, zero points. Raises CutError
    without scales.
    """
    stored = grouped_nf4(stored)
    found = {key: entry for key, entry in stored.items() if not key.endswith((_QDATA, _SCALE, _ZERO_POINT))}
    for key, entry in stored.items():
        if key.endswith(_QDATA):
            name = key.removesuffix(_QDATA)
            if name + _SCALE not in stored:
                raise CutError(f"the quantised checkpoint has {key} in {entry.path} and no {name + _SCALE}")
            parts = [entry, stored[name + _SCALE]]
            parts += [stored[name + _ZERO_POINT]] if name + _ZERO_POINT in stored else []
            found[f"{name}.weight"] = replace(entry, parts=tuple(parts))
    return found


def is_of_integers(entry: Entry | None) -> bool:
    """Whether this is the tensor of a quantised weight."""
    return entry is not None and not entry.is_floating and len(entry.parts) > 1


def read_quantised(name: str, entry: Entry, module: QuantisedLinear) -> None:
    """Sets the values of the module of this name.

    Raises CutError for other shapes than the module's, and for asymmetric values.
    """
    if module.format == "nf4":
        read_nf4(f"{name}.weight", entry, module)
        return
    groups = tuple(module.scale.shape)
    integers, scales, *zero_points = entry.parts
    values = _tensor(name + _QDATA, integers, (module.out_features, module.in_features), torch.int8)
    scale = _tensor(name + _SCALE, scales, groups, module.scale.dtype)
    for one in zero_points:
        if bool(_tensor(name + _ZERO_POINT, one, groups, torch.int8).any()):
            where = f"{name + _ZERO_POINT} in {one.path}"
            raise CutError(f"{where} must be zero, as of symmetric quantisation")
    put(module, values, scale)


def _tensor(name: str, entry: Entry, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    if entry.shape != shape or entry.is_floating != dtype.is_floating_point:
        got = f"{entry.dtype} of shape {entry.shape}"
        raise CutError(f"the quantised checkpoint must have {name} of {dtype} and shape {shape}, has {got}")
    value = torch.empty(shape, dtype=dtype, device="cpu")
    read(entry, value)
    return value
