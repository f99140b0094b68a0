"""The state of a run as one safetensors file, replaced whole or not at all."""

import os
from collections.abc import Mapping
from pathlib import Path

import safetensors
import safetensors.torch
from torch import Tensor

from splitfl.errors import ConfigError


def save(path: Path, tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> None:
    """Writes the tensors and notes beside `path`, then moves them there in one step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with partial.open("wb") as file:
        file.write(safetensors.torch.save(whole, dict(notes)))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def restore(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and notes of a checkpoint; ConfigError where it is missing or damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, safetensors.SafetensorError) as error:
        raise ConfigError(f"cannot read the checkpoint {path}: {error}") from None
