"""Experiments from Python, in a notebook for instance: run, plan and compare them, and read their folders."""

import json
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

from splitfl.cluster.ray_clients import clients_on
from splitfl.comparison.backends import backend_of
from splitfl.comparison.compare import Comparison, PlannedCosts, compare_methods, plan_methods
from splitfl.comparison.entrants import labels_of
from splitfl.config import RunConfig, at_least, one_of
from splitfl.controller.budget import resolved
from splitfl.controller.dry_run import controller_for
from splitfl.core.errors import ConfigError
from splitfl.methods.settings import refuse_unread
from splitfl.run_folder.create import FolderOnDemand
from splitfl.run_folder.read import RunRecord, read_run
from splitfl.runtime.notebook_screen import NotebookScreen
from splitfl.runtime.run import run_in_one_process
from splitfl.runtime.screen import Screen, Silent
from splitfl.runtime.simulated_clients import in_this_thread
from splitfl.runtime.terminal import plain_console
from splitfl.runtime.terminal_screen import TerminalScreen
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict, read_tables
from splitfl.tracking.registry import check_installed
from splitfl.transport.registry import transport

ExperimentLike = str | os.PathLike[str] | Mapping[str, Any] | RunConfig
"""An experiment: the path of a TOML or JSON file, its tables, or its settings."""


def run(
    experiment: ExperimentLike,
    *,
    out: str | os.PathLike[str] = "runs",
    screen: Screen | None = None,
    on: str | None = None,
    **overrides: Any,
) -> RunRecord:
    """Runs an experiment in this process and thread, and reads the folder that it leaves in `out`.

    `experiment` is the path of a TOML or JSON file, or its tables; `overrides` are tables or, by `**`,
    dotted keys, put over it. Server and clients exchange the same frames as over a network: whatever the
    experiment's [transport] says is left aside. `screen` is told of the progress: by default a progress
    display in a notebook or on a terminal, else nothing; `splitfl.Silent()` shows nothing anywhere. With `on`
    the clients are computed by processes of a Ray cluster, `ray[:ADDRESS]`.

    >>> result = splitfl.run(experiment, federation={"rounds": 1}, **{"train.seed": 7})
    >>> result.metrics["round"]
    [0]
    >>> result.summary.bytes_up == sum(result.costs["bytes_up"])
    True
    >>> result.adapter.name
    'adapter'
    >>> splitfl.load_run(result.folder).setting("train.seed")
    7

    Raises ConfigError, DataError or ModelMissing for an experiment that cannot run, Diverged for one whose
    numbers are no longer finite.
    """
    open_clients = in_this_thread if on is None else clients_on(on)
    config = resolved(_settings(experiment, overrides))
    site = Experiment.of(config)
    name = _name(experiment, as_dict(config))
    with (
        FolderOnDemand(Path(out), name, site.config, command="splitfl.run") as new_folder,
        nullcontext(screen) if screen is not None else _screen_of(site) as shown,
    ):
        folder, _ = run_in_one_process(
            site, new_folder, shown, controller_for=controller_for, open_clients=open_clients
        )
    return read_run(folder)


def load_run(folder: str | os.PathLike[str]) -> RunRecord:
    """The run in this folder, finished or not. Raises ConfigError that names the file that is at fault."""
    return read_run(Path(folder))


def plan(
    experiment: ExperimentLike,
    methods: str | Iterable[str] = (),
    *,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    **overrides: Any,
) -> PlannedCosts:
    """What a run will cost before it is run, by dry runs: bytes, airtime, energy, FLOPs, client memory.

    `methods` are laid side by side, by default the experiment's own; `own` has overrides for single methods.
    Bytes are those of the run, to the byte.

    >>> splitfl.plan(experiment).costs["sfl-v2"]["bytes_up"] == splitfl.run(experiment).summary.bytes_up
    True

    Raises ConfigError where no method can run, DataError or ModelMissing for what cannot be read.
    """
    tables, texts = _tables(experiment), _as_texts(overrides)
    labels = _labels(methods)
    if not labels:
        config = from_dict(tables, texts)
        refuse_unread(config)
        labels = [config.method.name]
    return plan_methods(tables, texts, labels, _own(own, labels))


def compare(
    experiment: ExperimentLike,
    methods: str | Iterable[str],
    *,
    budgets: Sequence[str] = (),
    seeds: int = 3,
    on: str = "processes",
    jobs: int = 0,
    max_rounds: int | None = None,
    own: Mapping[str, Mapping[str, Any]] | None = None,
    out: str | os.PathLike[str] = "runs",
    on_run: Callable[[str], None] = lambda what: None,
    **overrides: Any,
) -> Comparison:
    """Runs methods side by side with the same weights, data, order and link, as `splitfl compare` does.

    Beside `methods` the baselines `frozen` and `sfl-v2@checkpointed` always take part; METHOD@NAME is a
    variant of a method, and `own` has overrides for single ones. `budgets` are texts such as "bytes=50MB".
    The runs are `on` `processes`, `jobs` at a time (0: in this one), or on a Ray cluster, `ray[:ADDRESS]`.
    A run that ended in `out` is not run again. `on_run` is told of each run.

    Raises ConfigError where no method can take part, DataError or ModelMissing for what cannot be read,
    PeerLost where every run failed.
    """
    tables, labels = _tables(experiment), _labels(methods)
    at_least("seeds", seeds, 1)
    at_least("jobs", jobs, 0)
    at_least("max_rounds", 1 if max_rounds is None else max_rounds, 1)
    return compare_methods(
        tables,
        _as_texts(overrides),
        labels,
        _own(own, labels_of(labels)),
        budgets=budgets,
        seeds=seeds,
        backend=backend_of(on, jobs),
        max_rounds=max_rounds,
        out=Path(out) / f"compare-{_name(experiment, tables)}",
        on_done=lambda race, why, of: on_run(f"{race.label}, seed {race.seed}: {why or 'done'} ({of} runs)"),
    )


def _screen_of(site: Experiment) -> AbstractContextManager[Screen]:
    """Shows progress where a person sees it."""
    console = plain_console(stderr=True)
    if console.is_jupyter:
        return NotebookScreen(site.config, site.total_steps())
    if console.is_terminal:
        return TerminalScreen(console, site.config, site.total_steps(), invites=False)
    return nullcontext(Silent())


def _tables(experiment: ExperimentLike) -> dict[str, Any]:
    if isinstance(experiment, RunConfig):
        return as_dict(experiment)
    return dict(experiment) if isinstance(experiment, Mapping) else read_tables(Path(experiment))


def _name(experiment: ExperimentLike, tables: Mapping[str, Any]) -> str:
    """The name of a file, else that of the method."""
    if isinstance(experiment, str | os.PathLike):
        return Path(experiment).stem
    return str(tables.get("method", {}).get("name", RunConfig().method.name))


def _labels(methods: str | Iterable[str]) -> list[str]:
    """The methods one by one; a text has commas between them."""
    named = methods.split(",") if isinstance(methods, str) else methods
    return [label.strip() for label in named if label.strip()]


def _own(own: Mapping[str, Mapping[str, Any]] | None, labels: Sequence[str]) -> dict[str, list[str]]:
    for label in own or {}:
        one_of("label of own", label, labels)
    return {label: _as_texts(overrides) for label, overrides in (own or {}).items()}


def _as_texts(overrides: Mapping[str, Any], before: str = "") -> list[str]:
    """Overrides as `--set` takes them."""
    texts = []
    for key, value in overrides.items():
        if isinstance(value, Mapping):
            texts += _as_texts(value, f"{before}{key}.")
        else:
            plain = os.fspath(value) if isinstance(value, os.PathLike) else value
            if plain is None:
                raise ConfigError(f"{before}{key} must have a value, got None")
            texts.append(f"{before}{key}={json.dumps(plain, ensure_ascii=False)}")
    return texts


def _settings(experiment: ExperimentLike, overrides: Mapping[str, Any]) -> RunConfig:
    table = _tables(experiment)
    config = from_dict(_merged({**table, "transport": {"name": "inproc"}}, overrides))
    if not transport(config.transport.name).in_process:
        raise ConfigError(
            f"splitfl.run runs in one process: transport.name must be 'inproc', got {config.transport.name!r}"
        )
    check_installed(config.tracking)
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
