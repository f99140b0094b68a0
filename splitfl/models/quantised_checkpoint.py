"""Checkpoints that transformers saved with torchao's int8 or int4 weight-only quantisation.

The weight of a quantised module NAME is stored as NAME._weight_qdata, int8 (out, in) also for int4, as
NAME._weight_scale (out, groups), and NAME._weight_zero_point, which is zero: the quantisation is symmetric.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor
from transformers import PretrainedConfig

from splitfl.core.errors import CutError
from splitfl.models.checkpoint_file import Entry, read
from splitfl.models.quantised import Quantisation, QuantisedLinear, put

QDATA: Final = "._weight_qdata"
_SCALE, _ZERO_POINT = "._weight_scale", "._weight_zero_point"


def stored_quantisation(settings: object) -> Quantisation | None:
    """The quantisation in a `quantization_config`, if it is one that is supported."""
    try:
        default = settings["quant_type"]["default"]  # type: ignore[index]
        kind, values = default["_type"], default["_data"]
        granularity = values["granularity"]
        if (kind, granularity["_type"]) == ("Int8WeightOnlyConfig", "PerRow"):
            return Quantisation(bits=8)
        is_int4 = (kind, values["weight_dtype"]["_data"]) == ("IntxWeightOnlyConfig", "int4")
        is_symmetric = (values["mapping_type"]["_data"], granularity["_type"]) == ("SYMMETRIC", "PerGroup")
        if is_int4 and is_symmetric:
            return Quantisation(bits=4, group_size=granularity["_data"]["group_size"])
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


def plain_key(key: str) -> str:
    """The key of a tensor without quantisation: NAME.weight for NAME._weight_qdata."""
    return f"{key.removesuffix(QDATA)}.weight" if key.endswith(QDATA) else key


def read_quantised(key: str, stored: Mapping[str, Entry], module: QuantisedLinear) -> None:
    """Sets a module's values to those of this key.

    Raises CutError for other shapes than the module's, and for asymmetric values.
    """
    name, groups = key.removesuffix(QDATA), tuple(module.scale.shape)
    values = _tensor(stored, key, (module.out_features, module.in_features), torch.int8)
    scale = _tensor(stored, name + _SCALE, groups, module.scale.dtype)
    if name + _ZERO_POINT in stored and bool(_tensor(stored, name + _ZERO_POINT, groups, torch.int8).any()):
        where = f"{name + _ZERO_POINT} in {stored[key].path}"
        raise CutError(f"{where} must be zero, as of symmetric quantisation")
    put(module, values, scale)


def _tensor(stored: Mapping[str, Entry], key: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    entry = stored.get(key)
    if entry is None or entry.shape != shape or entry.is_floating != dtype.is_floating_point:
        got = "nothing" if entry is None else f"{entry.dtype} of shape {entry.shape}"
        raise CutError(f"the quantised checkpoint must have {key} of {dtype} and shape {shape}, has {got}")
    value = torch.empty(shape, dtype=dtype, device="cpu")
    read(entry, value)
    return value
