"""Reads individual tensors of a safetensors checkpoint into memory.

The file is read, not memory-mapped: mapped pages would count as memory of the process, whereas a
client's memory should depend on its piece only. Format: the header's length as a little-endian
uint64, the header as JSON (name -> dtype, shape, offsets), the tensors' bytes
(https://github.com/huggingface/safetensors#format).
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from splitfl.core.errors import CutError, ModelMissing
from splitfl.core.folder_cache import cached_by_files

CHUNK_BYTES = 2 * 2**20
_CLASSIFIERS: Final = ("classifier", "score", "classifier.out_proj", "classifier.1")
"""The suffixes of the names of classifier modules, with one output per label."""
_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """The location of a tensor; `start` is its byte offset in the file.

    The values of a tensor that is stored in `parts` are those of its parts one after another.
    """

    path: Path
    dtype: str
    shape: tuple[int, ...]
    start: int
    num_bytes: int
    parts: tuple["Entry", ...] = ()

    @property
    def is_floating(self) -> bool:
        """Whether the dtype is floating point."""
        return _DTYPES[self.dtype].is_floating_point


@cached_by_files
def entries(folder: Path) -> Mapping[str, Entry]:
    """Every tensor of the checkpoint in this folder, in one or several files, by key.

    Raises ModelMissing if there is no checkpoint, or if it is damaged.
    """
    found: dict[str, Entry] = {}
    for path in _files(folder):
        found |= _header(path)
    return found


def read(entry: Entry, out: Tensor) -> None:
    """Fills `out` (contiguous, any dtype and device, of the same shape) chunk by chunk."""
    flat, done = out.detach().view(-1), 0
    for part in entry.parts or (entry,):
        count = math.prod(part.shape)
        _read_part(part, flat[done : done + count])
        done += count


def read_whole(entry: Entry) -> Tensor:
    """The tensor itself, of its stored dtype."""
    made = torch.empty(entry.shape, dtype=_DTYPES[entry.dtype])
    read(entry, made)
    return made


def same_bytes(one: Entry, other: Entry) -> bool:
    """Whether two stored tensors are bit-identical."""
    if (one.dtype, one.shape) != (other.dtype, other.shape):
        return False
    with open(one.path, "rb") as first, open(other.path, "rb") as second:
        first.seek(one.start)
        second.seek(other.start)
        for done in range(0, one.num_bytes, CHUNK_BYTES):
            count = min(CHUNK_BYTES, one.num_bytes - done)
            if first.read(count) != second.read(count):
                return False
    return True


def check_stored(meta: Tensor, name: str, entry: Entry) -> None:
    """Raises CutError if the dtype or shape of a stored tensor does not match this one."""
    if entry.is_floating != meta.is_floating_point():
        needs = "floating-point" if meta.is_floating_point() else "integer"
        raise CutError(
            f"{name} must be a {needs} tensor, but is stored as {entry.dtype} in {entry.path}: the "
            "checkpoint is quantised, or of another model; use one in float32, float16 or bfloat16"
        )
    if entry.shape != tuple(meta.shape):
        if (head := name.rpartition(".")[0]).endswith(_CLASSIFIERS) and entry.shape[1:] == meta.shape[1:]:
            raise CutError(
                f"the checkpoint's {head} has {entry.shape[0]} labels ({entry.path}) but the task has "
                f"{meta.shape[0]}: use data with the checkpoint's labels, or set model.new_classifier to "
                "true for a newly initialised classifier"
            )
        raise CutError(
            f"{name} must have shape {tuple(meta.shape)} by the settings, got {entry.shape} in {entry.path}; "
            "were num_labels or the configuration changed?"
        )


def of_adapter(folder: Path) -> str:
    """The remedy for a folder with an adapter in place of a model; "" for any other folder."""
    if not (folder / "adapter_config.json").is_file():
        return ""
    return "; it holds an adapter: give its base model as model.name, and this folder as adapter.start"


def _files(folder: Path) -> list[Path]:
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            names = sorted({str(name) for name in json.loads(index.read_bytes())["weight_map"].values()})
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ModelMissing(f"{index} is damaged: {error!r}") from None
        for name in names:
            if not (folder / name).is_file():
                raise ModelMissing(f"{folder} lacks {name}, which {index.name} names; fetch the model again")
        return [folder / name for name in names]
    if list(folder.glob("*.bin")):
        raise ModelMissing(
            f"{folder} holds its weights only as pickles (.bin), which are never opened because they can "
            "execute code; save the model again with save_pretrained(..., safe_serialization=True)"
        )
    raise ModelMissing(
        f"{folder} holds no weights: neither model.safetensors nor model.safetensors.index.json"
        f"{of_adapter(folder)}"
    )


def _header(path: Path) -> dict[str, Entry]:
    try:
        with safe_open(path, framework="pt") as checked:  # the library checks sizes and overlaps
            names = set(checked.keys())
    except (SafetensorError, OSError) as error:
        raise ModelMissing(f"{path} is damaged or truncated ({error}); fetch the model again") from None
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        table = json.loads(file.read(length))
    found = {}
    for name in names:
        dtype, (begin, end) = table[name]["dtype"], table[name]["data_offsets"]
        if dtype not in _DTYPES:
            raise ModelMissing(
                f"{path}: tensor {name} is stored as {dtype}, as in quantised checkpoints; it may be "
                f"{', '.join(_DTYPES)}: use the original checkpoint"
            )
        shape = tuple(table[name]["shape"])
        start = 8 + length + begin
        found[name] = Entry(path=path, dtype=dtype, shape=shape, start=start, num_bytes=end - begin)
    return found


def _read_part(entry: Entry, flat: Tensor) -> None:
    dtype = _DTYPES[entry.dtype]
    done, step = 0, CHUNK_BYTES // dtype.itemsize
    with open(entry.path, "rb") as file:
        file.seek(entry.start)
        while done < flat.numel():
            count = min(step, flat.numel() - done)
            flat[done : done + count].copy_(_read_chunk(file, entry.path, count, dtype))
            done += count


def _read_chunk(file: BinaryIO, path: Path, count: int, dtype: torch.dtype) -> Tensor:
    buffer = bytearray(count * dtype.itemsize)
    if file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
        raise ModelMissing(f"{path} became shorter while it was read; fetch the model again")
    return torch.frombuffer(buffer, dtype=dtype)
