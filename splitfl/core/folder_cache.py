"""What was read from a folder of files, kept until one of them changes."""

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
"""How many results a function keeps."""


def cached_by_files(read: Reader[P, T]) -> Reader[P, T]:
    """Keeps the results of `read(folder, ...)` as long as no file in the folder changes.

    Callers share a result, so it must not be changed. The other arguments must be hashable;
    an error is raised anew each time.
    """

    def of_version(folder: Path, version: Version, *args: P.args, **kwargs: P.kwargs) -> T:
        return read(folder, *args, **kwargs)

    kept = cast(Callable[Concatenate[Path, Version, P], T], lru_cache(_RESULTS)(of_version))

    def cached(folder: Path, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return kept(folder, _version(folder), *args, **kwargs)

    update_wrapper(cached, read)
    return cached


def _version(folder: Path) -> Version:
    """Name, size, time of the last change (ns) and inode of each file; none where there is no folder."""
    try:
        with os.scandir(folder) as found:
            files = [(file.name, file.stat()) for file in found if file.is_file()]
    except OSError:
        return ()
    return tuple(sorted((name, of.st_size, of.st_mtime_ns, of.st_ino) for name, of in files))
