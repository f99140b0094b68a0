"""The state of a run as one safetensors file, replaced whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from splitfl.errors import ConfigError


def save(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Writes the tensors and notes to `path`; see `write_whole`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, safetensors.torch.save(whole, dict(notes)))


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
    """The tensors and notes of a checkpoint; ConfigError where it is missing or damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"cannot read the checkpoint {path}: {error}") from None
