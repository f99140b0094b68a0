"""The state of running labs: one folder each, in this user's runtime directory."""

import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from splitfl.core.errors import ConfigError
from testbed.namespaces import is_alive
from testbed.runtime_folder import runtime_folder


@dataclass(frozen=True, kw_only=True)
class LabState:
    """A lab that is or was up: the PID of its daemon, and the namespaces of its nodes."""

    name: str
    plan: str
    daemon: int
    ticks: str
    nodes: Mapping[str, str]
    addresses: Mapping[str, str]

    @property
    def is_up(self) -> bool:
        """Whether its daemon runs."""
        return is_alive(self.daemon, self.ticks)

    def write(self) -> None:
        """Writes the state to the lab's folder, atomically."""
        part = folder_of(self.name) / "part"
        part.write_text(json.dumps(asdict(self)), encoding="utf-8")
        part.replace(folder_of(self.name) / "lab.json")

    @classmethod
    def read(cls, name: str) -> Self | None:
        """The state of a lab; None for an unknown lab, and while it starts."""
        try:
            return cls(**json.loads((folder_of(name) / "lab.json").read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except (ValueError, TypeError) as error:
            raise ConfigError(f"{folder_of(name) / 'lab.json'} is damaged: {error}") from None


def folder_of(name: str) -> Path:
    """The path of a lab's folder, which need not exist."""
    return home() / name


def names() -> list[str]:
    """The names of all labs with a folder."""
    return sorted(entry.name for entry in home().iterdir() if entry.is_dir())


def forget(name: str) -> None:
    """Removes a lab's folder."""
    shutil.rmtree(folder_of(name), ignore_errors=True)


def home() -> Path:
    """The folder of all labs. Raises ConfigError if it belongs to another user."""
    return runtime_folder("labs")


@contextmanager
def one_at_a_time() -> Iterator[None]:
    """Serialises `up` and `down` across processes."""
    with (home() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
