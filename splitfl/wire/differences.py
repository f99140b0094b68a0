"""Encodes differences of named tensors as rows, so that any codec of rows applies.

A row lies along the longer of a tensor's first axis and all others together: for LoRA's factors, a row is one
rank. Rows of equal width are encoded together, so that their scales and code tables are shared.
"""

# R rows of the tensors of one width, D numbers in a row

import zlib
from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.wire.rows import Coded, decode_rows, encode_rows

Shapes = Mapping[str, torch.Size]

_CODES = "codes"


def rows_by_width(differences: Mapping[str, Tensor]) -> dict[int, Tensor]:
    """The rows (R, D) of all tensors, by D."""
    shapes = {name: value.shape for name, value in differences.items()}
    return {
        width: torch.cat([_rows(differences[name]) for name in names]).to(torch.float32)
        for width, names in _by_width(shapes).items()
    }


def encode_differences(rows: Mapping[int, Tensor], codec: str) -> dict[str, Tensor]:
    """The parts of the codec of rows by width, by width and part; equal for equal input on every machine."""
    parts = dict[str, Tensor]()
    for width, rows_RD in rows.items():
        parts |= {_key(width, name): part for name, part in encode_rows(rows_RD, codec).parts.items()}
    return parts


def decode_differences(parts: Mapping[str, Tensor], shapes: Shapes, codec: str) -> dict[str, Tensor]:
    """The differences (float32) of tensors with these shapes; raises WireError for parts that do not fit.

    No more is allocated than these shapes take.
    """
    left, found = dict(parts), {}
    for width, names in _by_width(shapes).items():
        counts = [shapes[name].numel() // width for name in names]
        own = {key: left.pop(key) for key in list(left) if key.partition(".")[0] == str(width)}
        coded = Coded(
            codec=codec,
            dtype="float32",
            width=width,
            parts={key.partition(".")[2] or _CODES: part for key, part in own.items()},
        )
        rows_RD = decode_rows(coded, sum(counts) * width * torch.float32.itemsize)
        if rows_RD.shape != (sum(counts), width):
            raise WireError(f"differences must have {sum(counts)} rows of {width}, got {[*rows_RD.shape]}")
        for name, rows in zip(names, torch.split(rows_RD, counts), strict=True):
            found[name] = _tensor(rows, shapes[name])
    if left:
        raise WireError(f"differences have unknown parts {sorted(left)!r:.80}")
    return found


def checksum(tensors: Mapping[str, Tensor]) -> int:
    """The CRC-32 of the values of tensors on the CPU, in order of their names."""
    found = 0
    for name in sorted(tensors):
        found = zlib.crc32(tensors[name].contiguous().view(-1).view(torch.uint8).numpy().data, found)
    return found


def mask_of(names: Mapping[str, object], of: Mapping[str, object]) -> Tensor:
    """A bit for each name of `of`, in sorted order, eight to a byte (uint8): whether it is among `names`."""
    bits = torch.tensor([name in names for name in sorted(of)], dtype=torch.uint8)
    padded = torch.nn.functional.pad(bits, (0, -len(bits) % 8)).view(-1, 8)
    return (padded << torch.arange(8, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)


def names_in(mask: Tensor, of: Mapping[str, object]) -> list[str]:
    """The names of `of` whose bits are set; raises WireError for a mask of other length."""
    if mask.dtype != torch.uint8 or mask.shape != (-(-len(of) // 8),):
        raise WireError(f"a mask of {len(of)} tensors cannot be {mask.dtype} {[*mask.shape]}")
    bits = (mask[:, None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten().tolist()
    if any(bits[len(of) :]):
        raise WireError(f"a mask of {len(of)} tensors has further bits")
    return [name for name, bit in zip(sorted(of), bits, strict=False) if bit]


def _by_width(shapes: Shapes) -> dict[int, list[str]]:
    found = defaultdict(list)
    for name in sorted(shapes):
        if shapes[name].numel():
            found[max(_matrix(shapes[name]))].append(name)
    return dict(sorted(found.items()))


def _matrix(shape: torch.Size) -> tuple[int, int]:
    """The number of elements along the first axis, and along all others; a vector is one row."""
    return (shape[0], shape[1:].numel()) if len(shape) > 1 else (1, shape.numel())


def _rows(value: Tensor) -> Tensor:
    first, others = _matrix(value.shape)
    matrix = value.reshape(first, others)
    return matrix.T if first > others else matrix


def _tensor(rows: Tensor, shape: torch.Size) -> Tensor:
    first, others = _matrix(shape)
    return (rows.T if first > others else rows).reshape(shape)


def _key(width: int, part: str) -> str:
    return str(width) if part == _CODES else f"{width}.{part}"
