"""Pictures and untrained networks so small that a run of them takes a second."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from splitfl.config import RunConfig
from splitfl.methods.registry import METHODS
from splitfl.methods.settings import optional
from splitfl.setup.experiment_file import from_dict

FULL = {"head": {"kind": "full"}, "body": {"kind": "full"}}
RESNET: dict[str, Any] = {
    "model_type": "resnet",
    "untrained": True,
    "image_size": 16,
    "num_channels": 3,
    "layer_type": "basic",
    "embedding_size": 6,
    "depths": [1, 1, 1, 1],
    "hidden_sizes": [6, 8, 10, 12],
    "stem": "cifar",
}
SMALL_NET: dict[str, Any] = {
    "model_type": "small_net",
    "untrained": True,
    "image_size": 8,
    "num_channels": 1,
    "channels": [4, 6],
    "kernel_size": 3,
    "widths": [12],
}


def model(folder: Path, **settings: Any) -> Path:
    """A folder with a configuration alone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def data(folder: Path, train: int = 60, held_out: int = 20, side: int = 8) -> Path:
    """Pictures of one bright row each, which is its class out of four, among noise."""
    folder.mkdir(parents=True, exist_ok=True)
    chance = np.random.default_rng(3)
    arrays = {}
    for part, count in (("train", train), ("test", held_out)):
        labels = np.arange(count) % 4
        pixels = chance.integers(0, 60, (count, side, side))
        pixels[np.arange(count), 2 * labels] += 180
        arrays |= {f"x_{part}": pixels.astype(np.uint8), f"y_{part}": labels.astype(np.uint8)}
    np.savez(folder / "mnist.npz", **arrays)
    return folder


def config(folder: Path, settings: dict[str, Any], **tables: dict[str, Any]) -> RunConfig:
    """A run of two clients for two rounds of three steps that trains such a network whole.

    What the method does not read is left out.
    """
    model(folder / "model", **settings)
    if not (folder / "mnist.npz").exists():
        data(folder)
    plain: dict[str, Any] = {
        "model": {"name": str(folder / "model")},
        "partition": {"cut": 2},
        "adapter": FULL,
        "task": {"name": "mnist", "data": str(folder)},
        "federation": {"clients": 2, "rounds": 2, "local_steps": 3, "aggregator": "mean"},
        "method": {"name": "sfl-v2"},
        "train": {"batch_size": 8, "head_lr": 1e-2, "body_lr": 1e-2},
        "transport": {"name": "inproc", "timeout_s": 20.0},
        "client": {"device": "cpu"},
        "server": {"device": "cpu"},
    }
    name = tables.get("method", {}).get("name", "sfl-v2")
    for unread in optional(RunConfig()).keys() - METHODS[name].reads:
        table, _, key = unread.partition(".")
        plain.get(table, {}).pop(key, None)
    return from_dict({name: {**plain.get(name, {}), **tables.get(name, {})} for name in {**plain, **tables}})
