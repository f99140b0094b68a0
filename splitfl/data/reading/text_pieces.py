"""Documents of any size as pieces of text, read one after another."""

import codecs
import gzip
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import BufferedIOBase
from typing import Final

from splitfl.core.errors import DataError

PIECE_BYTES: Final = 1 << 14
"""The maximum size of a piece. A corpus is divided among clients, limited and held out by pieces."""


@dataclass(frozen=True, kw_only=True)
class Document:
    """A text, with the group that would own it; `is_held_out` is None where the text's hash decides."""

    name: str
    group: str
    open: Callable[[], BufferedIOBase]
    is_held_out: bool | None = None


@dataclass(frozen=True, kw_only=True)
class TextPiece:
    """A part of a document; `ends` says whether it is the last one."""

    text: str
    document: Document
    ends: bool


@dataclass(frozen=True, kw_only=True)
class TextSource:
    """Documents that are too many to be held in memory, always in the same order.

    `name` is what messages call them; `version` is another one whenever they are.
    """

    name: str
    version: str
    documents: Callable[[], Iterator[Document]]


def pieces_of(document: Document) -> Iterator[TextPiece]:
    """The document in pieces of at most PIECE_BYTES, cut after a line feed, else between characters.

    Joined they are the document, except for a byte-order mark. Raises DataError, with the line, for what is
    not text in UTF-8, and for a file that cannot be read.
    """
    waiting: str | None = None
    for text in _texts(document):
        if waiting is not None:
            yield TextPiece(text=waiting, document=document, ends=False)
        waiting = text
    if waiting is not None:
        yield TextPiece(text=waiting, document=document, ends=True)


def _texts(document: Document) -> Iterator[str]:
    rest, line, is_first = b"", 1, True
    for block in _blocks(document):
        rest += block
        while len(rest) >= PIECE_BYTES:
            cut = rest.rfind(b"\n", 0, PIECE_BYTES) + 1 or PIECE_BYTES
            text, size = _decoded(rest[:cut], document.name, line, is_end=False)
            yield text.removeprefix("\ufeff") if is_first else text
            rest, line, is_first = rest[size:], line + text.count("\n"), False
    text, _ = _decoded(rest, document.name, line, is_end=True)
    if text := text.removeprefix("\ufeff") if is_first else text:
        yield text


def _blocks(document: Document) -> Iterator[bytes]:
    try:
        with document.open() as file:
            while block := file.read(PIECE_BYTES):
                yield block
    except (OSError, EOFError, zlib.error) as error:
        is_damaged = isinstance(error, EOFError | zlib.error | gzip.BadGzipFile)
        why = f"not a whole gzip file ({error})" if is_damaged else getattr(error, "strerror", error)
        raise DataError(f"cannot read {document.name}: {why}") from None


def _decoded(data: bytes, name: str, line: int, *, is_end: bool) -> tuple[str, int]:
    """The text in these bytes, which begin in this line, and how many bytes it takes."""
    at, why = data.find(b"\0"), "a NUL byte: this is no text file"
    if at < 0:
        try:
            return codecs.utf_8_decode(data, "strict", is_end)
        except UnicodeDecodeError as error:
            at, why = error.start, "not UTF-8 text; convert the file"
    line += data.count(b"\n", 0, at)
    raise DataError(f"{name}, line {line}: {why}")
