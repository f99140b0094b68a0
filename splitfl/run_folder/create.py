"""Creates the folder of a run, with its settings and environment."""

import importlib.metadata
import platform
import shlex
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from splitfl.config import RunConfig
from splitfl.core.errors import ConfigError, DataError, ModelMissing
from splitfl.server.run import write_json
from splitfl.setup.experiment_file import as_dict

_LIBRARIES = ("splitfl", "torch", "transformers", "peft", "numpy", "safetensors")


class FolderOnDemand:
    """Creates a run's folder when called; as a context it removes the folder again if input was refused."""

    def __init__(self, parent: Path, name: str, config: RunConfig, command: str = "") -> None:
        """`command` is recorded in environment.json; the default is this process's command line."""
        self._parent, self._name, self._config, self._command = parent, name, config, command
        self._folder: Path | None = None

    def __call__(self) -> Path:
        """Creates the folder; see `new_folder`."""
        self._folder = new_folder(self._parent, self._name, self._config, self._command)
        return self._folder

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        is_bad_input = isinstance(error, (ConfigError, DataError, ModelMissing))
        if is_bad_input and self._folder is not None and not (self._folder / "summary.json").exists():
            shutil.rmtree(self._folder)


def new_folder(parent: Path, name: str, config: RunConfig, command: str = "") -> Path:
    """Creates a new folder `parent/name-DATE-TIME` with config.json and environment.json.

    Raises ConfigError if it cannot be written.
    """
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        folder = _first_free(parent / f"{name}-{stamp}")
    except OSError as error:
        raise ConfigError(f"cannot write a run's folder in {parent}: {error.strerror}") from None
    return fill(folder, config, command)


def fill(folder: Path, config: RunConfig, command: str = "") -> Path:
    """Writes config.json and environment.json into this folder; returns it. Raises ConfigError."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "config.json", as_dict(config))
        write_json(folder / "environment.json", environment(command or command_line()))
    except OSError as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise ConfigError(f"cannot write a run's folder in {folder.parent}: {error.strerror}") from None
    return folder


def command_line() -> str:
    """The command line of this process."""
    return shlex.join(["splitfl", *sys.argv[1:]])


def environment(command: str) -> dict[str, object]:
    """The provenance of a run: time, command, commit, versions, platform."""
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "git_commit": _git_commit(),
        "versions": {"python": platform.python_version(), **{name: version_of(name) for name in _LIBRARIES}},
        "platform": platform.platform(),
    }


def _first_free(folder: Path) -> Path:
    for number in range(1, 1000):
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}-{number}")
        try:
            candidate.mkdir()
            return candidate
        except FileExistsError:
            continue
    raise ConfigError(f"{folder} and 998 numbered variants exist already")


def version_of(library: str) -> str | None:
    """The installed version of a package, or None."""
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    """The commit of the running code, with `-dirty` for uncommitted changes; None outside a clone."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return described.stdout.strip()
