"""Digests of a run's settings, data and weights, which a checkpoint to resume must match."""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

from splitfl.config import TENSOR
from splitfl.core.checkpoint import Checkpoint
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict

_RANKS: Final = ("shard", "ranks")


def origin_of(experiment: Experiment, checksums: Mapping[str, str]) -> dict[str, str]:
    """Digests of the inputs that determine a run's bits: settings, data and initial weights' checksums.

    The tables [transport] and [tracking] do not affect the bits, and the ranks of the server do only if they
    add up parts of one sum.
    """
    settings = as_dict(experiment.config)
    del settings["transport"], settings["tracking"]
    del settings["server"]["collective_timeout_s"]
    if experiment.config.server.shard != TENSOR:
        for name in _RANKS:
            del settings["server"][name]
    tables = {"settings": settings, "weights": dict(checksums)}
    digests = {
        name: hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
        for name, table in tables.items()
    }
    return digests | {"data": experiment.data_digest()}


def check_origin(newest: Checkpoint, origin: Mapping[str, str]) -> None:
    """Raises ConfigError for a checkpoint of a run with other settings, data or weights."""
    what = {
        "settings": "the settings of the run",
        "data": "its data, their classes or their partition",
        "weights": "the model's initial weights",
    }
    for name, digest in origin.items():
        if newest.metadata.get(name) != digest:
            raise ConfigError(
                f"the checkpoint after round {newest.round + 1} cannot be continued: {what[name]} changed "
                "since it was written. Restore them, or start a new run"
            )
