"""Documents come in pieces that are the document again, whatever their size and line ends."""

import gzip
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest

from splitfl.core.errors import DataError
from splitfl.data.reading.text_pieces import PIECE_BYTES, Document, TextPiece, pieces_of

Write = Callable[[str, str | bytes], Path]


def pieces(data: bytes) -> list[TextPiece]:
    """The pieces of a document with this content."""
    return list(pieces_of(Document(name="d.txt", group="g", open=partial(BytesIO, data))))


@pytest.mark.parametrize(
    "text",
    [
        "a line\nanother\r\n and one without an end",
        "one line\n" * 5000,
        "\N{EURO SIGN}" * 20_000,  # no line ends, and characters of three bytes: 16,384 is no multiple of 3
        "x" * (PIECE_BYTES - 1) + "\n" + "y" * PIECE_BYTES,
    ],
    ids=["short", "lines", "no line ends", "exactly a piece"],
)
def test_the_pieces_joined_are_the_document(text: str) -> None:
    found = pieces(text.encode())
    assert "".join(piece.text for piece in found) == text
    assert max(len(piece.text.encode()) for piece in found) <= PIECE_BYTES
    assert [piece.ends for piece in found] == [False] * (len(found) - 1) + [True]


def test_pieces_are_cut_at_ends_of_lines() -> None:
    assert {piece.text[-1] for piece in pieces(b"a line\n" * 9000)} == {"\n"}


def test_a_byte_order_mark_is_not_part_of_the_text() -> None:
    assert [piece.text for piece in pieces(b"\xef\xbb\xbfa")] == ["a"]
    assert pieces(b"") == pieces(b"\xef\xbb\xbf") == []


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"fine\n\xff no", "line 2: not UTF-8 text; convert the file"),
        (b"cut \xe2\x82", "line 1: not UTF-8 text; convert the file"),
        (b"a\n" * PIECE_BYTES + b"\x00", f"line {PIECE_BYTES + 1}: a NUL byte: this is no text file"),
    ],
)
def test_what_is_no_text_is_refused_with_its_line(content: bytes, reason: str) -> None:
    with pytest.raises(DataError, match=rf"^d.txt, {reason}$"):
        pieces(content)


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-9], lambda data: b"no gzip" + data], ids=["cut", "other"]
)
def test_a_damaged_gzip_file_is_refused(write: Write, damage: Callable[[bytes], bytes]) -> None:
    path = write("d.txt.gz", damage(gzip.compress(b"text\n" * 1000)))
    with pytest.raises(DataError, match=r"^cannot read d.txt.gz: not a whole gzip file"):
        list(pieces_of(Document(name="d.txt.gz", group="", open=partial(gzip.open, path))))
