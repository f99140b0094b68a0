"""What a run starts from, as digests: a checkpoint is continued only by a run of the same origin."""

import hashlib
import json
from collections.abc import Mapping

from splitfl.core.checkpoint import Checkpoint
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict


def origin_of(site: Experiment, whole: Piece) -> dict[str, str]:
    """Digests of what decides a run's bits: its settings, its data and the weights that it starts from.

    Where and how messages travel, and who follows the metrics, decides no bit.
    """
    settings = as_dict(site.config)
    del settings["transport"], settings["tracking"]
    tables = {"settings": settings, "weights": dict(whole.checksums)}
    digests = {
        name: hashlib.sha256(json.dumps(table, sort_keys=True).encode()).hexdigest()
        for name, table in tables.items()
    }
    return digests | {"data": site.data_digest()}


def refuse_other_origin(kept: Checkpoint, origin: Mapping[str, str]) -> None:
    """ConfigError for a checkpoint of a run with other settings, data or weights."""
    what = {
        "settings": "the settings of the run",
        "data": "its data, their classes or who holds which of them",
        "weights": "the weights of the model that it started from",
    }
    for name, digest in origin.items():
        if kept.notes.get(name) != digest:
            raise ConfigError(
                f"the checkpoint after round {kept.round + 1} cannot be continued: {what[name]} changed "
                "since it was written. Restore them, or start a new run"
            )
