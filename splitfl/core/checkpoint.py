"""Checkpoints as safetensors files, written atomically and verified by a digest when read."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from splitfl.core.errors import ConfigError

_DIGEST: Final = "sha256"
_COUNT: Final = 2
_CLIENT_COUNT: Final = _COUNT + 1


def save(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Writes tensors and metadata to `path`, with a digest of both; see `write_whole`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    assert _DIGEST not in metadata
    write_whole(path, safetensors.torch.save(whole, {**metadata, _DIGEST: _digest(whole, metadata)}))


def write_whole(path: Path, data: bytes) -> None:
    """Writes a temporary file, then renames it to `path`; on an error the former file remains."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def restore(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and metadata of a checkpoint; raises ConfigError if it is missing, damaged or foreign."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"cannot read the checkpoint {path}: {error}") from None
    if metadata.pop(_DIGEST, None) != _digest(tensors, metadata):
        raise ConfigError(f"cannot read the checkpoint {path}: its checksum does not match")
    return tensors, metadata


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A checkpoint after round `round`; `unreadable` has the errors of later ones."""

    round: int
    tensors: dict[str, Tensor]
    metadata: dict[str, str]
    unreadable: tuple[str, ...]


class CheckpointStore:
    """The newest checkpoints of one process in a folder: `round-N.safetensors`."""

    def __init__(self, folder: Path, keep: int = _COUNT) -> None:
        """Keeps the newest `keep` checkpoints."""
        self.folder = folder
        self._keep = keep

    @classmethod
    def of_client(cls, folder: Path) -> Self:
        """The store of a client, which keeps one more, since it may be a round ahead of its server."""
        return cls(folder, _CLIENT_COUNT)

    def put(self, round_index: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        """Saves the state after this round; deletes checkpoints of later rounds, and the oldest ones."""
        save(self.path(round_index), tensors, {**metadata, "round": str(round_index)})
        before = [at for at in self.rounds() if at < round_index]
        for at in self.rounds():
            if at > round_index or at in before[: 1 - self._keep]:
                self.path(at).unlink()
        for partial in self.folder.glob(".round-*.partial"):  # left by a killed process
            partial.unlink()

    def rounds(self) -> list[int]:
        """The rounds with a checkpoint, readable or not, in ascending order."""
        found = [path.stem.partition("-")[2] for path in self.folder.glob("round-*.safetensors")]
        return sorted(int(number) for number in found if number.isdigit())

    def at(self, round_index: int) -> Checkpoint:
        """The checkpoint after this round; raises ConfigError if it is missing or damaged."""
        tensors, metadata = restore(self.path(round_index))
        return Checkpoint(round=round_index, tensors=tensors, metadata=metadata, unreadable=())

    def newest(self) -> Checkpoint | None:
        """The newest readable checkpoint, None without any.

        Raises ConfigError if there are checkpoints and none is readable.
        """
        unreadable: list[str] = []
        for round_index in reversed(self.rounds()):
            try:
                found = self.at(round_index)
            except ConfigError as error:
                unreadable.append(str(error))
                continue
            return Checkpoint(
                round=round_index,
                tensors=found.tensors,
                metadata=found.metadata,
                unreadable=tuple(unreadable),
            )
        if unreadable:
            raise ConfigError("; ".join(unreadable))
        return None

    def path(self, round_index: int) -> Path:
        """The path of this round's checkpoint, which may not exist."""
        return self.folder / f"round-{round_index}.safetensors"


def _digest(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of all names, types, shapes and bytes."""
    found = hashlib.sha256()
    for key in sorted(metadata):
        found.update(repr((key, metadata[key])).encode())
    for name in sorted(tensors):
        found.update(repr((name, str(tensors[name].dtype), tuple(tensors[name].shape))).encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
