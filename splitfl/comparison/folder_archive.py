"""A run folder as the bytes of a zip archive, to send it to another machine."""

import os
import shutil
import tempfile
import zipfile
import zlib
from io import BytesIO
from pathlib import Path
from typing import Final

from splitfl.core.errors import WireError

MAX_BYTES: Final = 4 << 30
"""Maximum size of all files in a folder."""


def pack(folder: Path, max_bytes: int = MAX_BYTES) -> bytes:
    """All files below this folder; empty bytes if there is none. Raises WireError above `max_bytes`."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    if size > max_bytes:
        raise WireError(f"the run folder has {size:,} bytes; at most {max_bytes:,} are sent")
    whole = BytesIO()
    with zipfile.ZipFile(whole, "w", zipfile.ZIP_DEFLATED, compresslevel=1, strict_timestamps=False) as file:
        for path in files:
            file.write(path, path.relative_to(folder))
    return whole.getvalue() if files else b""


def unpack(archive: bytes, folder: Path, max_bytes: int = MAX_BYTES) -> None:
    """Replaces the folder by the files of the archive, all or none of them.

    Raises WireError for a damaged archive, more than `max_bytes`, or a name that is not below the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=folder.parent) as staging:
        whole = Path(staging) / "run"
        try:
            _extract(archive, whole, max_bytes)
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError) as error:
            raise WireError(f"the archive of {folder} is damaged: {error}") from None
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(whole, folder)


def _extract(archive: bytes, folder: Path, max_bytes: int) -> None:
    with zipfile.ZipFile(BytesIO(archive)) as file:
        entries = file.infolist()
        size = sum(entry.file_size for entry in entries)
        if size > max_bytes:
            raise ValueError(f"it holds {size:,} bytes, of which at most {max_bytes:,} are read")
        for entry in entries:
            if not (folder / entry.filename).resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"the name {entry.filename!r} is not below the folder")
        file.extractall(folder)  # writes ordinary files and folders only
