"""A cache of the standard library's docstrings in the user's cache folder.

Every process of a run needs the same corpus, and parsing a thousand source files takes seconds.
A cached corpus is valid only for the same Python, the same names, sizes and modification times of the
sources, and a matching checksum; otherwise the sources are parsed again.
"""

import hashlib
import json
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from splitfl.data.reading.cache_folder import cache_folder

log = logging.getLogger(__name__)

Sources = Sequence[tuple[str, Path]]
"""Source files, each with its top-level module."""

Texts = dict[str, str]
"""Docstring -> the first top-level module with it, in the order of the sources."""

_FORMAT: Final = 1
"""To be incremented when `parse` changes its result for the same sources."""


def parsed_once(sources: Sources, parse: Callable[[Sources], Texts], folder: Path | None = None) -> Texts:
    """The result of `parse`, from the cache in `folder` if the sources are unchanged.

    The default folder is `splitfl` in the user's cache folder. Without a writable cache, sources are parsed.
    """
    key = _key(sources)
    folder = folder or cache_folder()
    if folder is None:
        return parse(sources)
    path = folder / f"docstrings-{sys.implementation.cache_tag}.json"
    found = _read(path, key)
    if found is None:
        found = parse(sources)
        _write(path, key, found)
    return found


def _key(sources: Sources) -> str:
    """A digest of all inputs of `parse`."""
    seen = [(module, str(path), stat.st_size, stat.st_mtime_ns) for module, path, stat in _stats(sources)]
    return hashlib.blake2b(repr((_FORMAT, sys.version, seen)).encode(), digest_size=16).hexdigest()


def _stats(sources: Sources) -> list[tuple[str, Path, os.stat_result]]:
    return [(module, path, path.stat()) for module, path in sources if path.exists()]


def _digest(key: str, texts: Texts) -> str:
    return hashlib.blake2b(json.dumps([key, list(texts.items())]).encode(), digest_size=16).hexdigest()


def _read(path: Path, key: str) -> Texts | None:
    """The cached texts of this key; None if missing or damaged."""
    try:
        kept = json.loads(path.read_bytes())
        texts = dict(kept["texts"])
        is_whole = kept["key"] == key and kept["digest"] == _digest(key, texts)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.debug("%s cannot be read: %s", path, error)
        return None
    return texts if is_whole else None


def _write(path: Path, key: str, texts: Texts) -> None:
    """Replaces the file atomically, so that concurrent processes never read a partial file."""
    kept = {"key": key, "digest": _digest(key, texts), "texts": list(texts.items())}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", dir=path.parent, prefix=path.name, delete=False
        ) as file:
            try:
                json.dump(kept, file)
                file.close()
                os.replace(file.name, path)
            except OSError:
                Path(file.name).unlink(missing_ok=True)
                raise
    except OSError as error:
        log.debug("docstrings are not cached in %s: %s", path, error)
