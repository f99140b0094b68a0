"""Huffman codes of bytes: DEFLATE (RFC 1951) without repetitions, by zlib."""

import zlib
from typing import Final

from splitfl.wire.codecs.codec import EntropyCoder

_RAW: Final = -zlib.MAX_WBITS


def _encode(data: bytes, step: float | None) -> bytes:
    coder = zlib.compressobj(method=zlib.DEFLATED, wbits=_RAW, memLevel=9, strategy=zlib.Z_HUFFMAN_ONLY)
    return coder.compress(data) + coder.flush()


def _decode(data: bytes, count: int, step: float | None) -> bytes:
    coder = zlib.decompressobj(wbits=_RAW)
    try:
        plain = coder.decompress(data, count + 1)
    except zlib.error as error:
        raise ValueError(str(error)) from None
    if len(plain) != count or not coder.eof or coder.unused_data:
        raise ValueError(f"the data do not end after {count} bytes")
    return plain


HUFFMAN: Final = EntropyCoder(about="Huffman codes", encode=_encode, decode=_decode)
