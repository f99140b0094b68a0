"""What is known of the labs that are up: one folder each, in this user's runtime directory."""

import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from splitfl.core.errors import ConfigError
from testbed.namespaces import is_alive


@dataclass(frozen=True, kw_only=True)
class State:
    """A lab that is up, or was: its keeper is a process, and its nodes are namespaces."""

    name: str
    plan: str
    keeper: int
    ticks: str
    nodes: Mapping[str, str]
    addresses: Mapping[str, str]

    @property
    def is_up(self) -> bool:
        """Whether its keeper still lives."""
        return is_alive(self.keeper, self.ticks)

    def write(self) -> None:
        """Puts it into the lab's folder, whole or not at all."""
        part = folder_of(self.name) / "part"
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(folder_of(self.name) / "lab.json")

    @classmethod
    def read(cls, name: str) -> Self | None:
        """The lab of this name; None where there is none, or none that came to stand."""
        try:
            return cls(**json.loads((folder_of(name) / "lab.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{folder_of(name) / 'lab.json'} is damaged: {error}") from None


def folder_of(name: str) -> Path:
    """A lab's folder, which need not be there."""
    return home() / name


def names() -> list[str]:
    """Labs that have a folder."""
    return sorted(entry.name for entry in home().iterdir() if entry.is_dir())


def forget(name: str) -> None:
    """Removes a lab's folder."""
    shutil.rmtree(folder_of(name), ignore_errors=True)


def home() -> Path:
    """Where labs have their folders; ConfigError where it belongs to somebody else."""
    own = Path(f"/run/user/{os.geteuid()}")
    given = os.environ.get("XDG_RUNTIME_DIR")
    parent = Path(given) if given else own if own.is_dir() else Path(tempfile.gettempdir())
    folder = parent / f"splitfl-{os.geteuid()}" / "labs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one in (folder, folder.parent):
        if one.lstat().st_uid != os.geteuid() or one.is_symlink():
            raise ConfigError(f"{one} belongs to somebody else; set XDG_RUNTIME_DIR to a folder of your own")
    return folder


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Lets one `up` or `down` at a time go on."""
    with (home() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
