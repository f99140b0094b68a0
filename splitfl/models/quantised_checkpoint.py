"""Checkpoints that transformers saved with torchao's int8 or int4 weight-only quantisation.

The weight of a quantised module NAME is stored as NAME._weight_qdata, int8 (out, in) also for int4, as
NAME._weight_scale (out, groups), and NAME._weight_zero_point, which is zero: the quantisation is symmetric.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
from torch import Tensor, nn
from transformers import PretrainedConfig

from splitfl.core.errors import CutError
from splitfl.models.checkpoint_file import Entry, read
from splitfl.models.quantised import Quantisation, QuantisedLinear, from_integers

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


def read_quantised(
    key: str,
    stored: Mapping[str, Entry],
    like: Tensor,
    bias: nn.Parameter | None,
    quantisation: Quantisation,
) -> QuantisedLinear:
    """The quantised module whose values have this key; `like` is its weight (out, in) on the meta device.

    Raises CutError for other shapes than the model's and the configuration's, and for asymmetric values.
    """
    name = key.removesuffix(QDATA)
    scale_dtype = torch.float32 if quantisation.bits == 8 else like.dtype
    groups = like.shape[1] // (quantisation.group_size or like.shape[1])
    values = _tensor(stored, key, tuple(like.shape), torch.int8)
    scale = _tensor(stored, name + _SCALE, (len(like), groups), scale_dtype)
    if name + _ZERO_POINT in stored:
        zero_point = _tensor(stored, name + _ZERO_POINT, (len(like), groups), torch.int8)
        if bool(zero_point.any()):
            raise CutError(
                f"{name + _ZERO_POINT} must be zero, as of symmetric quantisation ({stored[key].path})"
            )
    return from_integers(values, scale, bias, quantisation.bits, like.dtype)


def _tensor(stored: Mapping[str, Entry], key: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    entry = stored.get(key)
    if entry is None or entry.shape != shape or entry.is_floating != dtype.is_floating_point:
        got = "nothing" if entry is None else f"{entry.dtype} of shape {entry.shape}"
        raise CutError(f"the quantised checkpoint must have {key} of {dtype} and shape {shape}, has {got}")
    value = torch.empty(shape, dtype=dtype, device="cpu")
    read(entry, value)
    return value
