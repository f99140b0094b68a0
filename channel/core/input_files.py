"""Files that somebody else made, read as text or as numbers; nothing in them is executed or unpickled."""

import zlib
from pathlib import Path
from typing import Final
from zipfile import BadZipFile

import numpy as np
from numpy.lib.npyio import NpzFile
from numpy.typing import NDArray

from channel.core.errors import BadParameter

_DAMAGED = (
    BadZipFile,
    EOFError,
    KeyError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ValueError,
    zlib.error,
)
"""What numpy and zipfile raise for a file that is not what it seems."""


_PACKED: Final = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


def text_of(path: Path) -> str:
    """The whole file, without the byte order mark with which some editors begin it.

    Raises BadParameter for what is no UTF-8, OSError where there is nothing to read.
    """
    data = path.read_bytes()
    for begin, packer in _PACKED.items():
        if data.startswith(begin):
            raise BadParameter(f"{path.name} must be plain text, got a file packed by {packer}: unpack it")
    if data.startswith(_UTF_16):
        raise BadParameter(f"{path.name} must be text in UTF-8, got UTF-16: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadParameter(f"{path.name} must be text in UTF-8: {error}") from error


def lines_of(path: Path) -> list[tuple[int, str]]:
    """Numbered lines that are neither empty nor a comment, which begins with #; errors as in `text_of`."""
    lines = ((number, line.strip(" ")) for number, line in enumerate(text_of(path).splitlines(), start=1))
    return [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]


def arrays_of(path: Path, kinds: dict[str, str]) -> dict[str, NDArray[np.generic]]:
    """Arrays of these names from a .npz file; a kind is the letters of numpy's that its numbers may have.

    Raises BadParameter for what is no such file, misses a name or holds something else than numbers.
    """
    with path.open("rb") as file:
        try:
            archive = np.load(file, allow_pickle=False)
            found = (
                {name: archive[name] for name in kinds if name in archive} if _is_archive(archive) else None
            )
        except _DAMAGED as error:
            raise BadParameter(f"{path.name} must be a .npz file of arrays: {error}") from error
    if found is None:
        raise BadParameter(f"{path.name} must be a .npz file, got a single array")
    missing = [name for name in kinds if name not in found]
    if missing:
        raise BadParameter(f"{path.name} must hold {', '.join(kinds)}, got none of {', '.join(missing)}")
    for name, kind in kinds.items():
        if found[name].dtype.kind not in kind:
            raise BadParameter(f"{name} of {path.name} must be numbers, got {found[name].dtype}")
    return found


def _is_archive(loaded: object) -> bool:
    return isinstance(loaded, NpzFile)
