"""The docstrings of the standard library, parsed once and kept in the user's cache folder.

Every process of a run reads the same corpus, and parsing a thousand source files takes seconds.
A kept corpus is used only while the Python, the sources' names, sizes and times of change and the
checksum are what they were when it was written; otherwise the sources are parsed again.
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

log = logging.getLogger(__name__)

Sources = Sequence[tuple[str, Path]]
"""Source files, each with its top-level module."""

Texts = dict[str, str]
"""Docstring -> the top-level module where it was found first, in the order of the sources."""

_FORMAT: Final = 1
"""Counts up when `parse` finds other texts in the same sources."""


def parsed_once(sources: Sources, parse: Callable[[Sources], Texts], folder: Path | None = None) -> Texts:
    """What `parse` finds in these sources, from the cache in `folder` where they have not changed since.

    The default is `splitfl` in the user's cache folder. Where nothing can be kept, everything is parsed.
    """
    key = _key(sources)
    folder = folder or _user_folder()
    if folder is None:
        return parse(sources)
    path = folder / f"docstrings-{sys.implementation.cache_tag}.json"
    found = _read(path, key)
    if found is None:
        found = parse(sources)
        _write(path, key, found)
    return found


def _user_folder() -> Path | None:
    """As the XDG base directory specification has it; None without a home folder."""
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():
        return named / "splitfl"
    try:
        return Path.home() / ".cache" / "splitfl"
    except RuntimeError as error:
        log.debug("the docstrings are not kept: %s", error)
        return None


def _key(sources: Sources) -> str:
    """A digest of all that decides the texts."""
    seen = [(module, str(path), stat.st_size, stat.st_mtime_ns) for module, path, stat in _stats(sources)]
    return hashlib.blake2b(repr((_FORMAT, sys.version, seen)).encode(), digest_size=16).hexdigest()


def _stats(sources: Sources) -> list[tuple[str, Path, os.stat_result]]:
    return [(module, path, path.stat()) for module, path in sources if path.exists()]


def _digest(key: str, texts: Texts) -> str:
    return hashlib.blake2b(json.dumps([key, list(texts.items())]).encode(), digest_size=16).hexdigest()


def _read(path: Path, key: str) -> Texts | None:
    """The texts kept under this key; None where there are none, or damaged ones."""
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
    """Replaces the file in one step, so that processes which start together never see half of one."""
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
        log.debug("the docstrings are not kept in %s: %s", path, error)
