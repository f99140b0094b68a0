"""Experiments from Python, in a notebook for instance: run one in this process, read the folder of one."""

import os
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from splitfl.config import RunConfig
from splitfl.controller.budget import decided
from splitfl.controller.dry_run import controller_for
from splitfl.core.errors import ConfigError
from splitfl.run_folder.create import FolderOnDemand
from splitfl.run_folder.read import RunRecord, read_run
from splitfl.runtime.run import run_in_one_process
from splitfl.runtime.screen import Screen, Silent
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict, read_tables
from splitfl.transport.registry import transport


def run(
    experiment: str | os.PathLike[str] | Mapping[str, Any] | RunConfig,
    *,
    out: str | os.PathLike[str] = "runs",
    screen: Screen | None = None,
    **overrides: Any,
) -> RunRecord:
    """Runs an experiment in this process and thread, and reads the folder that it leaves in `out`.

    `experiment` is the path of a TOML or JSON file, or its tables; `overrides` are tables or, by `**`,
    dotted keys, put over it. Server and clients exchange the same frames as over a network: whatever the
    experiment's [transport] says is left aside. `screen` is told of the progress.

    >>> result = splitfl.run(experiment, federation={"rounds": 1}, **{"train.seed": 7})
    >>> result.metrics["round"]
    [0]
    >>> result.summary.bytes_up == sum(row.payload_bytes for row in result.events.transfers
    ...                                if row.direction == "up")
    True
    >>> result.adapter.name
    'adapter'
    >>> splitfl.load_run(result.folder).setting("train.seed")
    7

    Raises ConfigError, DataError or ModelMissing for an experiment that cannot run, Diverged for one whose
    numbers are no longer finite.
    """
    config = decided(_settings(experiment, overrides))
    site = Experiment.of(config)
    name = Path(experiment).stem if isinstance(experiment, str | os.PathLike) else config.method.name
    with FolderOnDemand(Path(out), name, site.config, command="splitfl.run") as new_folder:
        folder, _ = run_in_one_process(site, new_folder, screen or Silent(), controller_for=controller_for)
    return read_run(folder)


def load_run(folder: str | os.PathLike[str]) -> RunRecord:
    """The run in this folder, finished or not. Raises ConfigError that names the file that is at fault."""
    return read_run(Path(folder))


def _settings(experiment: Any, overrides: Mapping[str, Any]) -> RunConfig:
    if isinstance(experiment, RunConfig):
        table = as_dict(experiment)
    elif isinstance(experiment, Mapping):
        table = dict(experiment)
    else:
        table = read_tables(Path(experiment))
    config = from_dict(_merged({**table, "transport": {"name": "inproc"}}, overrides))
    if not transport(config.transport.name).in_process:
        raise ConfigError(
            f"splitfl.run runs in one process: transport.name must be 'inproc', got {config.transport.name!r}"
        )
    return config


def _merged(table: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """These nested tables with others put over them, key by key."""
    whole = deepcopy(dict(table))
    for path, value in overrides.items():
        *outer, key = path.split(".")
        at = whole
        for name in outer:
            at = at.setdefault(name, {})
            if not isinstance(at, dict):
                raise ConfigError(f"{path}: {name} is not a table")
        old = at.get(key, {})
        if isinstance(value, Mapping) and isinstance(old, Mapping):
            at[key] = _merged(old, value)
        else:
            at[key] = list(value) if isinstance(value, tuple) else value
            at[key] = os.fspath(value) if isinstance(value, os.PathLike) else at[key]
    return whole
