"""Reads from the folder of an interrupted run how to resume it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from splitfl.config import RunConfig, changed
from splitfl.core.errors import ConfigError
from splitfl.run_folder.read import read_run
from splitfl.setup.experiment_file import load


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """An interrupted run: its settings, with its previous ports, and whether it started clients locally."""

    config: RunConfig
    spawn: bool


def stopped(folder: Path) -> Stopped:
    """The interrupted run in this folder. Raises ConfigError for another folder, and for a completed run."""
    config = load(folder / "config.json")
    if read_run(folder).summary.status == "done":
        raise ConfigError(f"the run in {folder} is complete: there is nothing to resume")
    served = folder / "server.json"
    if not served.exists():
        return Stopped(config=config, spawn=True)
    try:
        table = json.loads(served.read_text(encoding="utf-8"))
        spawn = bool(table.pop("spawn"))
        if not table:
            raise ValueError("no port")
        transport = changed(config.transport, **table)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{served} does not hold the server's address: {error!r}") from None
    return Stopped(config=replace(config, transport=transport), spawn=spawn)
