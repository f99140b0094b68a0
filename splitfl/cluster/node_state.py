"""What must be equal on the nodes of a cluster for equal results: code, versions, and files of settings."""

import hashlib
import os
import platform
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final

import channel
from splitfl.config import RunConfig
from splitfl.config.plugin import value_of
from splitfl.core.errors import ConfigError, ModelMissing
from splitfl.models.checkpoint.source import resolve
from splitfl.run_folder.create import version_of

NamedFile = tuple[str, str]
"""A setting that names a file, a folder or a model, and its value."""

MODEL: Final = "model.name"
_PATHS: Final = ("task.data", "adapter.start", "link.trace", "link.trace_down", "link.scenario")
"""Settings that may name a file or folder."""

_LIBRARIES: Final = (
    *("torch", "transformers", "tokenizers", "peft", "safetensors", "numpy", "scipy", "pillow", "ray"),
    *("backports.zstd", "bitsandbytes", "constriction", "datasets", "numba", "rouge-score", "sacrebleu"),
    "torchao",
)
_BLOCK: Final = 1 << 20
_ABSENT: Final = "absent"


def files_of(config: RunConfig) -> set[NamedFile]:
    """The settings that name a model, or a file of this machine. Raises ConfigError for a relative path."""
    named = {key: value_of(config, key) for key in _PATHS}
    files = {key: value for key, value in named.items() if value and Path(value).expanduser().exists()}
    files[MODEL] = config.model.name
    for key, value in files.items():
        if not _located(key, value).is_absolute():
            raise ConfigError(f"{key} must be an absolute path, the same on every node; got {value!r}")
    return set(files.items())


def state(files: Collection[NamedFile]) -> dict[str, str]:
    """Digests of the code and of these `files`, and all versions, by what they are of."""
    versions = {library: version_of(library) or _ABSENT for library in _LIBRARIES}
    plugins = {
        f"the plug-in {point.name} ({group})": f"{point.dist.name} {point.dist.version}"
        for group in entry_points().groups
        if group.startswith("splitfl.")
        for point in entry_points(group=group)
        if point.dist is not None
    }
    digests = {f"{key} {value}": _digest(key, value) for key, value in files}
    return {
        "python": platform.python_version(),
        **versions,
        **plugins,
        "the code of splitfl": _digest_of_code(),
        "RAY_AUTH_MODE": os.environ.get("RAY_AUTH_MODE", "unset"),
        **digests,
    }


def differences(here: Mapping[str, str], there: Mapping[str, str]) -> str:
    """What differs between two states as a text; empty if nothing does."""
    return "; ".join(
        f"{name} is {there.get(name, _ABSENT)} there and {here.get(name, _ABSENT)} here"
        for name in {**here, **there}
        if here.get(name, _ABSENT) != there.get(name, _ABSENT)
    )


def _located(key: str, value: str) -> Path:
    return resolve(value) if key == MODEL else Path(value).expanduser()


def _digest(key: str, value: str) -> str:
    try:
        path = _located(key, value)
    except ModelMissing:
        return _ABSENT
    return _digest_of(path) if path.exists() else _ABSENT


@lru_cache(maxsize=64)
def _digest_of(path: Path) -> str:
    """The start of the SHA-256 of a file, or of the names and contents of all files in a folder."""
    return _hashed(path, [path] if path.is_file() else path.rglob("*"))


@lru_cache(maxsize=1)
def _digest_of_code() -> str:
    roots = (Path(channel.__path__[0]), Path(__file__).parents[1])
    return " ".join(
        _hashed(root, (path for path in root.rglob("*") if "__pycache__" not in path.parts)) for root in roots
    )


def _hashed(root: Path, paths: Iterable[Path]) -> str:
    whole = hashlib.sha256()
    for path in sorted(path for path in paths if path.is_file()):
        whole.update(repr((path.relative_to(root).as_posix(), path.stat().st_size)).encode())
        with path.open("rb") as file:
            while block := file.read(_BLOCK):
                whole.update(block)
    return whole.hexdigest()[:16]
