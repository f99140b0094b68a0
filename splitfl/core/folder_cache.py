"""Caches results read from a folder until one of its files changes."""

import os
from collections.abc import Callable
from functools import lru_cache, update_wrapper
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar, cast

P = ParamSpec("P")
T = TypeVar("T")
Reader = Callable[Concatenate[Path, P], T]
Version = tuple[tuple[str, int, int, int], ...]

_RESULTS = 16
"""Maximum number of cached results per function."""


def cached_by_files(read: Reader[P, T]) -> Reader[P, T]:
    """Caches the results of `read(folder, ...)` until a file in the folder changes.

    Callers share results, which must not be modified. The other arguments must be hashable;
    errors are not cached.
    """

    def of_version(folder: Path, version: Version, *args: P.args, **kwargs: P.kwargs) -> T:
        return read(folder, *args, **kwargs)

    cached_read = cast(Callable[Concatenate[Path, Version, P], T], lru_cache(_RESULTS)(of_version))

    def cached(folder: Path, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return cached_read(folder, version_of(folder), *args, **kwargs)

    update_wrapper(cached, read)
    return cached


def version_of(folder: Path) -> Version:
    """Name, size, modification time (ns) and inode of each file; empty without the folder."""
    try:
        with os.scandir(folder) as found:
            files = [(file.name, file.stat()) for file in found if file.is_file()]
    except OSError:
        return ()
    return tuple(sorted((name, of.st_size, of.st_mtime_ns, of.st_ino) for name, of in files))
