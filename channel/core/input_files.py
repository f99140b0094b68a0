"""Untrusted input files, read as text or as numeric arrays; nothing in them is executed or unpickled."""

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
"""Raised by numpy and zipfile for a damaged or mislabelled file."""


_PACKED: Final = {b"\x1f\x8b": "gzip", b"PK\x03\x04": "zip", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_UTF_16: Final = (b"\xff\xfe", b"\xfe\xff")


def text_of(path: Path) -> str:
    """The whole file as text, without a leading byte order mark.

    Raises BadParameter if it is compressed or not UTF-8, OSError if it cannot be read.
    """
    data = path.read_bytes()
    for begin, packer in _PACKED.items():
        if data.startswith(begin):
            raise BadParameter(f"{path.name} must be plain text, got {packer} data: decompress it")
    if data.startswith(_UTF_16):
        raise BadParameter(f"{path.name} must be text in UTF-8, got UTF-16: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadParameter(f"{path.name} must be text in UTF-8: {error}") from error


def lines_of(path: Path) -> list[tuple[int, str]]:
    """Lines with their numbers, from 1, without empty lines and # comments; errors as in `text_of`."""
    lines = ((number, line.strip(" ")) for number, line in enumerate(text_of(path).splitlines(), start=1))
    return [(number, line) for number, line in lines if line.strip() and not line.startswith("#")]


def arrays_of(path: Path, kinds: dict[str, str]) -> dict[str, NDArray[np.generic]]:
    """The named arrays of a .npz file; `kinds` maps each name to its permitted numpy dtype kinds, as "fiu".

    Raises BadParameter for another kind of file, a missing name or another dtype kind.
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
        raise BadParameter(f"{path.name} must hold {', '.join(kinds)}; missing: {', '.join(missing)}")
    for name, kind in kinds.items():
        if found[name].dtype.kind not in kind:
            raise BadParameter(f"{name} of {path.name} must be numbers, got {found[name].dtype}")
    return found


def _is_archive(loaded: object) -> bool:
    return isinstance(loaded, NpzFile)
