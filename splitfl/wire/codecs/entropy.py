"""A codec of rows whose codes, integers of 8 bits, pass through an entropy coder.

The coded bytes are one tensor: a byte with the form, the CRC-32 of the codes (4 bytes, little-endian), and
the data. Codes that all lie in [-8, 7] are packed two to a byte first, so that a code of whole bits for each
symbol (Huffman) loses less on small alphabets. Codes that the coder would make longer are sent unchanged.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Final

import torch
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs.codec import Codec, EntropyCoder, Parts
from splitfl.wire.codecs.int4 import pack_nibbles, unpack_nibbles

_PLAIN, _CODED, _PACKED = range(3)
_HEAD_BYTES: Final = 5
_MOST_AXES: Final = 8
_COUNT_BYTES: Final = 4
_ESCAPE: Final = 255


def entropy_coded(rows: Codec, coder: EntropyCoder, name: str) -> Codec:
    """`rows` followed by `coder`; `name` is the chain's, for errors.

    Raises ConfigError if the codes are not integers of 8 bits, or have no law where the coder needs one, and
    without the package of the coder.
    """
    if rows.integers is None or rows.integers.itemsize != 1:
        raise ConfigError(f"{name}: an entropy coder must follow a codec whose codes are 8-bit integers")
    if coder.needs_law and rows.normal_step is None:
        raise ConfigError(
            f"{name}: a coder with a table that is not sent must follow a codec whose codes have a known "
            "distribution, such as 'uniform'"
        )
    integers, step = rows.integers, rows.normal_step
    coder.encode(b"\0", step)  # a missing package is named now

    def encode(numbers: Tensor) -> Parts:
        parts = rows.encode(numbers)
        codes = parts["codes"]
        return {**parts, "codes": _packed(codes, coder, step), "shape": torch.tensor(codes.shape)}

    def leading(parts: Parts, width: int) -> Sequence[int]:
        codes = torch.empty(_shape(parts), dtype=integers, device="meta")
        return rows.leading({**parts, "codes": codes}, width)

    def decoded(parts: Parts) -> Parts:
        shape = _shape(parts)
        codes = _unpacked(parts["codes"], math.prod(shape), coder, step).view(integers).reshape(shape)
        return {**parts, "codes": codes}

    def decode(parts: Parts, width: int, dtype: torch.dtype) -> Tensor:
        return rows.decode(decoded(parts), width, dtype)

    def streams(parts: Parts, width: int) -> Sequence[Tensor]:
        assert rows.streams is not None
        return rows.streams(decoded(parts), width)

    return replace(
        rows,
        about=f"{rows.about}, then {coder.about}",
        with_options=None,
        parts=(*rows.parts, "shape"),
        encode=encode,
        leading=leading,
        decode=decode,
        unit_bytes=None,
        fixed_size=False,
        integers=None,
        streams=streams if rows.streams else None,
    )


def coded_gaps(gaps: Tensor, coder: EntropyCoder) -> Tensor:
    """Integers of at least 0 as one tensor of bytes: the number of symbols, and the symbols coded.

    A symbol is a byte; 255 adds 255 to the symbol that follows.
    """
    flat = gaps.flatten().to(torch.int64)
    ends = (flat // _ESCAPE + 1).cumsum(0)
    count = int(ends[-1]) if len(ends) else 0
    symbols = torch.full((count,), _ESCAPE, dtype=torch.uint8)
    symbols[ends - 1] = (flat % _ESCAPE).to(torch.uint8)
    head = torch.frombuffer(bytearray(count.to_bytes(_COUNT_BYTES, "little")), dtype=torch.uint8)
    return torch.cat([head, _packed(symbols, coder, None)])


def gaps_in(coded: Tensor, shape: torch.Size, below: int, coder: EntropyCoder) -> Tensor:
    """The gaps of this shape, all below `below`; raises WireError for other data."""
    if coded.dtype != torch.uint8 or coded.ndim != 1 or coded.numel() < _COUNT_BYTES:
        raise WireError(f"coded gaps must start with their number, got {coded.dtype} {[*coded.shape]}")
    count = int.from_bytes(coded[:_COUNT_BYTES].numpy().tobytes(), "little")
    if count > shape.numel() * (below // _ESCAPE + 1):
        raise WireError(f"{shape.numel()} gaps below {below} cannot have {count} symbols")
    symbols = _unpacked(coded[_COUNT_BYTES:], count, coder, None).to(torch.int64)
    ends = (symbols != _ESCAPE).nonzero().flatten()
    if len(ends) != shape.numel() or (count and int(ends[-1]) != count - 1):
        raise WireError(f"coded gaps must be {shape.numel()}, got {len(ends)}")
    escapes = ends.diff(prepend=ends.new_tensor([-1])) - 1
    found = escapes * _ESCAPE + symbols[ends]
    if bool((found >= below).any()):
        raise WireError(f"gaps must be below {below}, got {int(found.max())}")
    return found.to(gap_type(below)).reshape(shape)


def gap_type(below: int) -> torch.dtype:
    """The smallest type of a gap below this number."""
    if below <= 1 << 8:
        return torch.uint8
    return torch.int16 if below <= 1 << 15 else torch.int32


def _packed(codes: Tensor, coder: EntropyCoder, step: float | None) -> Tensor:
    plain = codes.contiguous().view(torch.uint8).flatten()
    form, symbols = _CODED, plain
    if not coder.needs_law and plain.numel() and bool(((plain + 8) < 16).all()):
        form, symbols = _PACKED, pack_nibbles(plain.view(torch.int8))
    data = coder.encode(symbols.numpy().tobytes(), step) if plain.numel() else b""
    if len(data) >= plain.numel():
        form, data = _PLAIN, plain.numpy().tobytes()
    checksum = zlib.crc32(plain.numpy().tobytes()).to_bytes(4, "little")
    return torch.frombuffer(bytearray(bytes([form]) + checksum + data), dtype=torch.uint8)


def _unpacked(packed: Tensor, count: int, coder: EntropyCoder, step: float | None) -> Tensor:
    """The `count` codes as bytes; raises WireError for other data."""
    if packed.dtype != torch.uint8 or packed.ndim != 1 or packed.numel() < _HEAD_BYTES:
        raise WireError(
            f"entropy-coded data must be at least {_HEAD_BYTES} bytes, got {packed.dtype} {[*packed.shape]}"
        )
    raw = packed.numpy().tobytes()
    form, checksum, data = raw[0], int.from_bytes(raw[1:_HEAD_BYTES], "little"), raw[_HEAD_BYTES:]
    try:
        plain = _decoded(form, data, count, coder, step)
    except ValueError as error:
        raise WireError(f"entropy-coded data cannot be decoded: {error}") from None
    if zlib.crc32(plain) != checksum:
        raise WireError("entropy-coded data have a wrong checksum")
    return (
        torch.frombuffer(bytearray(plain), dtype=torch.uint8) if plain else torch.empty(0, dtype=torch.uint8)
    )


def _decoded(form: int, data: bytes, count: int, coder: EntropyCoder, step: float | None) -> bytes:
    if form == _PLAIN:
        if len(data) != count:
            raise ValueError(f"{count} codes that are not coded have {len(data)} bytes")
        return data
    if form == _CODED:
        return coder.decode(data, count, step)
    if form != _PACKED or coder.needs_law:
        raise ValueError(f"unknown form {form}")
    pairs = torch.frombuffer(bytearray(coder.decode(data, -(-count // 2), step)), dtype=torch.uint8)
    return unpack_nibbles(pairs, count).numpy().tobytes()


def _shape(parts: Parts) -> tuple[int, ...]:
    shape = parts["shape"]
    if shape.dtype != torch.int64 or shape.ndim != 1 or not 1 <= shape.numel() <= _MOST_AXES:
        raise WireError(
            f"the shape of codes must be 1 to {_MOST_AXES} integers, got {shape.dtype} {[*shape.shape]}"
        )
    axes = tuple(shape.tolist())
    if min(axes) < 0 or math.prod(axes) > 1 << 40:
        raise WireError(f"the shape of codes is impossible: {[*axes]}")
    return axes
