"""The state of a run as safetensors files, each replaced whole or not at all, and none believed unchecked."""

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
_KEPT: Final = 2
_KEPT_BY_CLIENT: Final = _KEPT + 1


def save(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Writes the tensors and notes to `path`, with a digest of all of them; see `write_whole`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    assert _DIGEST not in notes
    write_whole(path, safetensors.torch.save(whole, {**notes, _DIGEST: _digest(whole, notes)}))


def write_whole(path: Path, data: bytes) -> None:
    """Writes beside `path`, then moves the file there in one step; a full disk leaves what was there."""
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
    """The tensors and notes of a checkpoint; ConfigError where it is missing, damaged, or not one of ours."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            notes = dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"cannot read the checkpoint {path}: {error}") from None
    if notes.pop(_DIGEST, None) != _digest(tensors, notes):
        raise ConfigError(f"cannot read the checkpoint {path}: it is damaged, its checksum is another")
    return tensors, notes


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """A checkpoint that was found: after which round, and the later ones that could not be read."""

    round: int
    tensors: dict[str, Tensor]
    notes: dict[str, str]
    unreadable: tuple[str, ...]


class CheckpointStore:
    """The last checkpoints of one process in a folder: `round-N.safetensors`."""

    def __init__(self, folder: Path, keep: int = _KEPT) -> None:
        """The last `keep` of them."""
        self.folder = folder
        self._keep = keep

    @classmethod
    def of_client(cls, folder: Path) -> Self:
        """A client, which may be a round ahead of its server's last, has the round of the one before too."""
        return cls(folder, _KEPT_BY_CLIENT)

    def put(self, round_index: int, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
        """Keeps the state after this round beside the last ones before it; later ones are forgotten."""
        save(self.path(round_index), tensors, {**notes, "round": str(round_index)})
        before = [at for at in self.rounds() if at < round_index]
        for at in self.rounds():
            if at > round_index or at in before[: 1 - self._keep]:
                self.path(at).unlink()
        for partial in self.folder.glob(".round-*.partial"):  # of a process that was killed over it
            partial.unlink()

    def rounds(self) -> list[int]:
        """After which rounds there is a checkpoint, readable or not, in order."""
        found = [path.stem.partition("-")[2] for path in self.folder.glob("round-*.safetensors")]
        return sorted(int(number) for number in found if number.isdigit())

    def at(self, round_index: int) -> Checkpoint:
        """The state after this round; ConfigError where it is missing or damaged."""
        tensors, notes = restore(self.path(round_index))
        return Checkpoint(round=round_index, tensors=tensors, notes=notes, unreadable=())

    def newest(self) -> Checkpoint | None:
        """The last state that can be read, None where there never was one.

        Raises ConfigError where there are some and none can be read.
        """
        unreadable: list[str] = []
        for round_index in reversed(self.rounds()):
            try:
                kept = self.at(round_index)
            except ConfigError as error:
                unreadable.append(str(error))
                continue
            return Checkpoint(
                round=round_index, tensors=kept.tensors, notes=kept.notes, unreadable=tuple(unreadable)
            )
        if unreadable:
            raise ConfigError("; ".join(unreadable))
        return None

    def path(self, round_index: int) -> Path:
        """The file of this round's checkpoint, whether it is there or not."""
        return self.folder / f"round-{round_index}.safetensors"


def _digest(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    """Of every name, type, shape and byte."""
    found = hashlib.sha256()
    for key in sorted(notes):
        found.update(repr((key, notes[key])).encode())
    for name in sorted(tensors):
        found.update(repr((name, str(tensors[name].dtype), tuple(tensors[name].shape))).encode())
        found.update(tensors[name].reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()
