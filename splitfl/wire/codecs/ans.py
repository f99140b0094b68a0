"""Asymmetric numeral systems (Duda, arXiv:1311.2540) with the normal law as the table, which is not sent.

For small messages, which would pay for a table, and for steps so wide that a code has hardly more than a
bit. The coder is that of constriction (Bamler, arXiv:2201.01741).
"""

from typing import Any, Final

import numpy as np

from splitfl.core.extras import optional
from splitfl.wire.codecs.codec import EntropyCoder

_MOST: Final = 127


def _model(step: float | None) -> Any:
    library = optional("constriction", "the codec 'ans' needs the package constriction", "compression")
    stream = library.stream
    return stream, stream.model.QuantizedGaussian(-_MOST - 1, _MOST, 0.0, 1.0 / (step or 1.0))


def _encode(data: bytes, step: float | None) -> bytes:
    stream, model = _model(step)
    coder = stream.stack.AnsCoder()
    coder.encode_reverse(np.frombuffer(data, dtype=np.int8).astype(np.int32), model)
    return bytes(coder.get_compressed().astype("<u4").tobytes())


def _decode(data: bytes, count: int, step: float | None) -> bytes:
    if len(data) % 4:
        raise ValueError(f"the data must be whole words of 4 bytes, got {len(data)} bytes")
    stream, model = _model(step)
    coder = stream.stack.AnsCoder(np.frombuffer(data, dtype="<u4").astype(np.uint32))
    codes = coder.decode(model, count).astype(np.int8)
    if not coder.is_empty():
        raise ValueError(f"the data do not end after {count} codes")
    return bytes(codes.tobytes())


ANS: Final = EntropyCoder(
    about="asymmetric numeral systems for a normal law", needs_law=True, encode=_encode, decode=_decode
)
