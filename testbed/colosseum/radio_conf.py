"""radio.conf: what a node of a batch job runs, in lines `key = value` that a shell can read.

Colosseum copies the file to /root/radio_api/radio.conf before a container boots and reads nothing of it; the
daemon splitfl-radio obeys it. Commands run by `sh -c` with these variables: SPLITFL_EXPERIMENT, a file with
the value of `experiment`, and SPLITFL_LOOP, the folder of the current loop below /logs.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

from splitfl.config import one_of
from splitfl.core.errors import ConfigError
from testbed.inventory.nodes import ROLES

WARM: Final = 'python -P -m testbed.colosseum.warm "$SPLITFL_EXPERIMENT"'
"""Loads the model once, so that its files are in memory when the run starts."""
MODEM_STARTS: Final = ("boot", "start")


@dataclass(frozen=True, kw_only=True)
class RadioConf:
    """The settings of one node. Raises ConfigError for a value that does not fit on one line.

    `address` is the server's in the network that the radio makes; clients' are not known beforehand.
    `run` is started by start.sh, and ended by stop.sh within `stop_s`, after which it is killed. The node is
    READY once `warm` has ended with exit status 0. `modem` carries the node's IP packets; it runs from
    `modem_start`, boot or the start of a loop, to the end; empty if the image brings up its radio itself.
    """

    node: str
    role: str
    run: str
    address: str = ""
    warm: str = WARM
    modem: str = ""
    modem_start: str = "boot"
    loops: int = 1
    stop_s: int = 60
    experiment: str = ""

    def __post_init__(self) -> None:
        one_of("role", self.role, ROLES)
        one_of("modem_start", self.modem_start, MODEM_STARTS)
        for name in ("loops", "stop_s"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("node", "address", "run", "warm", "modem", "experiment"):
            if not getattr(self, name).isprintable():
                raise ConfigError(f"{name} must be one line of text, got {getattr(self, name)!r}")
        for name in ("node", "run", "warm"):
            if not getattr(self, name).strip():
                raise ConfigError(f"{name} must not be empty")

    def text(self) -> str:
        """The contents of the file; empty settings are left out."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        lines = [f"{name} = {value}" for name, value in values.items() if value != ""]
        return "\n".join(["# Written by `splitfl testbed batch`; read by splitfl-radio.", *lines, ""])


def load_radio_conf(path: Path) -> RadioConf:
    """The settings in a file. Raises ConfigError, with the path."""
    try:
        return read_radio_conf(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ConfigError is a ValueError
        raise ConfigError(f"{path}: {error}") from None


def read_radio_conf(text: str) -> RadioConf:
    """The settings in a file's contents. Raises ConfigError for unknown, missing and invalid ones."""
    names = [field.name for field in fields(RadioConf)]
    values: dict[str, Any] = {}
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, is_setting, value = line.partition(" = ")
        if not is_setting:
            raise ConfigError(f"a line of radio.conf must be `key = value`, got {line!r}")
        one_of("key of radio.conf", name, names)
        values[name] = value
    for name in ("node", "role", "run"):
        if name not in values:
            raise ConfigError(f"radio.conf must have the key {name}")
    for name in values.keys() & {"loops", "stop_s"}:
        if not values[name].isdecimal():
            raise ConfigError(f"{name} must be a whole number, got {values[name]!r}")
        values[name] = int(values[name])
    return RadioConf(**values)


def experiment_text(table: Mapping[str, Any]) -> str:
    """An experiment's tables as one line of JSON."""
    return json.dumps(table, ensure_ascii=True, allow_nan=False)
