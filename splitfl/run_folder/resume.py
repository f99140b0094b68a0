"""What a stopped run's folder says of how to go on with it."""

import json
from dataclasses import dataclass, replace
from pathlib import Path

from splitfl.config import RunConfig, changed
from splitfl.core.errors import ConfigError
from splitfl.run_folder.read import read_run
from splitfl.setup.experiment_file import load


@dataclass(frozen=True, kw_only=True)
class Stopped:
    """A run to go on with: its settings, with the port that it had, and whether its clients ran here too."""

    config: RunConfig
    spawn: bool


def stopped(folder: Path) -> Stopped:
    """Raises ConfigError for what is no run's folder, and for a run that has ended well."""
    config = load(folder / "config.json")
    if read_run(folder).summary.status == "done":
        raise ConfigError(f"the run in {folder} has ended: there is nothing to go on with")
    served = folder / "server.json"
    if not served.exists():
        return Stopped(config=config, spawn=True)
    try:
        table = json.loads(served.read_text(encoding="utf-8"))
        port, topic, spawn = int(table["port"]), str(table["topic"]), bool(table["spawn"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{served} does not say where the server was: {error!r}") from None
    transport = changed(config.transport, port=port, **({"topic": topic} if topic else {}))
    return Stopped(config=replace(config, transport=transport), spawn=spawn)
