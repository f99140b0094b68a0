"""Puts a file in its place whole or not at all."""

import os
from pathlib import Path

from splitfl.core.errors import ConfigError


def write_whole(path: Path, content: bytes) -> Path:
    """Writes `content` to `path`, over what was there, and returns `path`.

    A reader never sees half of it. Raises ConfigError where it cannot be written, and
    leaves nothing behind then.
    """
    half = path.with_name(f".{path.name}.{os.getpid()}.half")
    try:
        half.write_bytes(content)
        os.replace(half, path)
    except OSError as error:
        half.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    return path
