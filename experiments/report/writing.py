"""Atomic file writes."""

import os
from pathlib import Path

from splitfl.core.errors import ConfigError


def write_whole(path: Path, content: bytes) -> Path:
    """Writes `content` to `path` atomically, replacing an older file; returns `path`.

    Raises ConfigError if it cannot be written, and removes the temporary file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.temporary")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ConfigError(f"cannot write {path}: {error.strerror}") from None
    return path
