"""Zstandard (RFC 8878) at level 1; higher levels search for repetitions that codes do not have."""

import importlib
from typing import Any, Final

from splitfl.core.extras import optional
from splitfl.wire.codecs.codec import EntropyCoder

_LEVEL: Final = 1


def _library() -> Any:
    """The standard library's module from Python 3.14 on, before it the package of the same interface."""
    try:
        return importlib.import_module("compression.zstd")
    except ModuleNotFoundError:
        return optional("backports.zstd", "the codec 'zstd' needs the package backports.zstd", "compression")


def _encode(data: bytes, step: float | None) -> bytes:
    return bytes(_library().compress(data, _LEVEL))


def _decode(data: bytes, count: int, step: float | None) -> bytes:
    library = _library()
    coder = library.ZstdDecompressor()
    try:
        plain = bytes(coder.decompress(data, count + 1))
    except (library.ZstdError, EOFError) as error:
        raise ValueError(str(error)) from None
    if len(plain) != count or not coder.eof or coder.unused_data:
        raise ValueError(f"the data do not end after {count} bytes")
    return plain


ZSTD: Final = EntropyCoder(about="Zstandard", encode=_encode, decode=_decode)
