"""A frame in two parts, for links that may lose rows: its rows of tokens, and all its other bytes.

Axes: N rows of a message, B bytes of a row, all parts of its codec together.
"""

import json
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from splitfl.core.errors import WireError
from splitfl.wire.frame import MAX_FRAME_BYTES, ROWS

Rows = NDArray[np.uint8]
Mask = NDArray[np.bool_]

NO_ROWS: Final[Rows] = np.zeros((0, 0), dtype=np.uint8)
NO_MASK: Final[Mask] = np.zeros(0, dtype=np.bool_)
"""Of a message that is sent as a whole."""

_LENGTH_BYTES = 8


def mask_bytes(count: int) -> int:
    """The bytes of a mask of `count` rows."""
    return -(-count // 8)


def split(frame: bytes, sent_N: Mask | None = None) -> tuple[bytes, Rows]:
    """The bytes that must arrive, and the rows (N, B), of a frame with rows.

    With `sent_N` only these rows, and their mask behind the other bytes. Raises WireError without rows.
    """
    places = _Places.of(frame)
    data = np.frombuffer(frame, dtype=np.uint8)
    parts = [data[begin:end].reshape(places.count, -1) for begin, end in places.spans]
    ends = [0, *(edge for span in places.spans for edge in span), len(frame)]
    other = b"".join(frame[begin:end] for begin, end in list(pairwise(ends))[::2])
    row_NB = np.concatenate(parts, axis=1)
    if sent_N is None:
        return other, row_NB
    return other + np.packbits(sent_N).tobytes(), row_NB[sent_N]


@dataclass(frozen=True, kw_only=True)
class JoinedFrame:
    """A frame as received; which of its rows (N,) arrived, those not sent among them, and which were sent."""

    frame: bytes
    arrived_N: Mask
    sent_N: Mask


def join(reliable: bytes, row_NB: Rows, arrived_N: Mask) -> JoinedFrame:
    """The inverse of `split` with what was received. Raises WireError for parts that do not fit."""
    places = _Places.of(reliable)
    size = places.end - sum(end - begin for begin, end in places.spans)
    sent_N, mask = np.ones(places.count, dtype=np.bool_), np.frombuffer(reliable[size:], dtype=np.uint8)
    if mask.size == mask_bytes(places.count):
        sent_N = np.unpackbits(mask, count=places.count).astype(np.bool_)
    elif mask.size:
        raise WireError(
            f"a mask of {places.count} rows must have {mask_bytes(places.count)} bytes, got {mask.size}"
        )
    row_bytes = sum(end - begin for begin, end in places.spans) // max(places.count, 1)
    if row_NB.shape != (sent_N.sum(), row_bytes) or len(reliable) < size:
        raise WireError(
            f"a message must have {sent_N.sum()} rows of {row_bytes} bytes, got {[*row_NB.shape]}"
        )
    whole_NB = np.zeros((places.count, row_bytes), dtype=np.uint8)
    whole_NB[sent_N] = row_NB
    arrived_all_N = np.ones(places.count, dtype=np.bool_)
    arrived_all_N[sent_N] = arrived_N
    return JoinedFrame(frame=places.filled(reliable, whole_NB), arrived_N=arrived_all_N, sent_N=sent_N)


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where a frame's rows are: `spans` of bytes, in order, each with a part of all `count` rows."""

    spans: tuple[tuple[int, int], ...]
    count: int
    end: int

    @classmethod
    def of(cls, frame: bytes) -> Self:
        """Of a frame, or of its reliable part, which has the same header."""
        length = int.from_bytes(frame[:_LENGTH_BYTES], "little")
        try:
            header: dict[str, Any] = json.loads(frame[_LENGTH_BYTES : _LENGTH_BYTES + length])
            inner = json.loads(header.pop("__metadata__")["splitfl"])
            rows = ROWS[inner["kind"]]
            first = _LENGTH_BYTES + length
            spans = {
                name: (first + int(one["data_offsets"][0]), first + int(one["data_offsets"][1]))
                for name, one in header.items()
            }
            count = math.prod(header[rows]["shape"][:-1])
        except (ValueError, LookupError, TypeError) as error:
            raise WireError(f"a frame of {len(frame)} bytes has no rows: {error}") from None
        own = sorted(span for name, span in spans.items() if name == rows or name.startswith(f"{rows}."))
        if any((end - begin) % max(count, 1) for begin, end in own):
            raise WireError(f"a frame has parts of rows that cannot be divided by {count} rows")
        end = max(end for _, end in spans.values())
        if not 0 <= count <= end <= MAX_FRAME_BYTES or any(one > other for one, other in spans.values()):
            raise WireError(f"a frame has {count} rows in {end} bytes, must have at most {MAX_FRAME_BYTES}")
        return cls(spans=tuple(own), count=count, end=end)

    def filled(self, other: bytes, row_NB: Rows) -> bytes:
        """The frame of these rows; what of `other` is behind the frame is left out."""
        parts, at, column = list[bytes](), 0, 0
        taken = 0
        for begin, end in self.spans:
            ahead = begin - at
            parts.append(other[taken : taken + ahead])
            width = (end - begin) // max(self.count, 1)
            parts.append(row_NB[:, column : column + width].tobytes())
            taken, at, column = taken + ahead, end, column + width
        parts.append(other[taken : taken + self.end - at])
        return b"".join(parts)
