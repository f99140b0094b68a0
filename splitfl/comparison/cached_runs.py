"""Cached runs: each in its own folder, and run only once."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from splitfl.config import RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.core.errors import ConfigError
from splitfl.run_folder import create as runs
from splitfl.run_folder.read import read_table
from splitfl.runtime.run import run_in_one_process
from splitfl.runtime.screen import Screen, Silent
from splitfl.runtime.serve import Ended, NewFolder
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load

RunExperiment = Callable[[Experiment, NewFolder, Screen], Ended]
"""Runs an experiment and returns its folder and summary."""


def in_one_process(experiment: Experiment, new_folder: NewFolder, screen: Screen) -> Ended:
    """See `run_in_one_process`, with the controller of the settings."""
    return run_in_one_process(experiment, new_folder, screen, controller_for=controller_for)


def run_once(
    config: RunConfig, folder: Path, run_experiment: RunExperiment = in_one_process, *, command: str = ""
) -> dict[str, Any]:
    """The summary of the run of these settings in this folder; runs it unless it is finished.

    An interrupted run is restarted. environment.json records `command`, by default that of this process.
    Raises ConfigError for a folder with a run of other settings.
    """
    summary = finished(config, folder)
    if summary is not None:
        return summary
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    experiment = Experiment.of(config)
    return run_experiment(experiment, lambda: runs.fill(folder, experiment.config, command), Silent())[1]


def finished(config: RunConfig, folder: Path) -> dict[str, Any] | None:
    """The summary of the finished run in this folder, or None; raises ConfigError for other settings."""
    path = folder / "summary.json"
    summary = read_table(path) if path.exists() else {}
    if summary.get("status") != "done":
        return None
    done = load(folder / "config.json")
    labels = config.task.labels or done.task.labels  # a run resolves labels that its settings leave open
    if done != replace(config, task=replace(config.task, labels=labels)):
        raise ConfigError(f"{folder} holds a run of other settings: give another --out, or remove it")
    return summary
