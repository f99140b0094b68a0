"""Checkpoints that transformers saved with bitsandbytes' NF4, with or without double quantisation.

Of the weight NAME of a quantised module are stored: NAME, the bytes; NAME.absmax, the scales; NAME.quant_map,
the 16 levels; NAME.quant_state.bitsandbytes__nf4, a JSON table as bytes. With double quantisation (Dettmers
et al., 2023, QLoRA, section 3) the scales are bytes themselves: indices of NAME.nested_quant_map, to be
multiplied by NAME.nested_absmax, one for each block of scales, and added to an offset of the table.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from splitfl.core.errors import CutError
from splitfl.models.checkpoint.checkpoint_file import Entry, read_whole
from splitfl.models.quantised import NF4_BLOCK, NF4_LEVELS, QuantisedLinear, nf4_values, put

_STATE = ".quant_state.bitsandbytes__nf4"
_PARTS = (_STATE, ".quant_map", ".absmax", ".nested_quant_map", ".nested_absmax")


def is_nf4(settings: Mapping[str, Any]) -> bool:
    """Whether a `quantization_config` is of NF4, stored as bytes."""
    is_of_4_bits = settings.get("quant_method") == "bitsandbytes" and settings.get("load_in_4bit") is True
    storage = settings.get("bnb_4bit_quant_storage", "uint8")
    return is_of_4_bits and settings.get("bnb_4bit_quant_type") == "nf4" and storage == "uint8"


def grouped_nf4(stored: Mapping[str, Entry]) -> dict[str, Entry]:
    """The tensors by key, those of a weight in NF4 as one in parts: its bytes, and then as in `_PARTS`.

    Raises CutError for a missing part.
    """
    names = [key.removesuffix(_STATE) for key in stored if key.endswith(_STATE)]
    found = dict(stored)
    for name in names:
        parts = [found.get(name), *(found.pop(name + suffix, None) for suffix in _PARTS)]
        missing = [
            name + suffix for suffix, part in zip(("", *_PARTS[:3]), parts, strict=False) if part is None
        ]
        if missing or (parts[4] is None) != (parts[5] is None):
            state = stored[name + _STATE]
            needed = missing[0] if missing else f"one of {name}.nested_quant_map and .nested_absmax"
            raise CutError(f"the quantised checkpoint has {name + _STATE} in {state.path} and lacks {needed}")
        held = tuple(part for part in parts if part is not None)
        found[name] = replace(held[0], parts=held)
    return found


def read_nf4(name: str, entry: Entry, module: QuantisedLinear) -> None:
    """Sets the values of the module of this name.

    Raises CutError for other levels or blocks than those of bitsandbytes' NF4, and for another shape.
    """
    values, state, levels, scales, *nested = (read_whole(part) for part in entry.parts)
    table = _table(name, entry, state)
    shape = (module.out_features, module.in_features)
    _check(name, entry, "shape", table.get("shape"), list(shape))
    _check(name, entry, "blocksize", table.get("blocksize"), NF4_BLOCK)
    _check(name, entry, "quant_map", levels.tolist(), NF4_LEVELS.tolist())
    _check(name, entry, "bytes", values.numel(), shape[0] * shape[1] // 2)
    if nested:
        scales = _nested(name, entry, scales, table, *nested)
    _check(name, entry, "scales", (scales.dtype, scales.numel()), (torch.float32, module.scale.numel()))
    put(module, nf4_values(values, shape), scales.view(module.scale.shape))


def _table(name: str, entry: Entry, state: Tensor) -> dict[str, Any]:
    try:
        table = json.loads(bytes(state.tolist()))
    except (ValueError, TypeError):
        table = None
    if not isinstance(table, dict):
        raise CutError(f"the quantised checkpoint's {name + _STATE} in {entry.path} is not a JSON table")
    return table


def _nested(
    name: str, entry: Entry, scales: Tensor, table: Mapping[str, Any], levels: Tensor, absmax: Tensor
) -> Tensor:
    """The scales of double quantisation, as bitsandbytes computes them."""
    size, offset = table.get("nested_blocksize"), table.get("nested_offset")
    _check(name, entry, "type of nested_offset", type(offset), float)
    _check(name, entry, "types of nested tensors", (scales.dtype, levels.numel()), (torch.uint8, 256))
    count = -(-scales.numel() // size) if isinstance(size, int) and size > 0 else -1
    _check(name, entry, "number of nested_absmax", absmax.numel(), count)
    assert isinstance(size, int)
    found: Tensor = levels[scales.int()] * absmax.repeat_interleave(size)[: scales.numel()]
    return found + torch.tensor(offset, dtype=torch.float32)


def _check(name: str, entry: Entry, what: str, got: object, expected: object) -> None:
    if got != expected:
        raise CutError(
            f"the quantised checkpoint's {name} in {entry.path} must have the {what} {expected}, got {got}"
        )
