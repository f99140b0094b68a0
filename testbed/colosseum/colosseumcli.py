"""Channel scenarios through `colosseumcli` on an SRN.

After colosseumcli 19.0.0 (colosseum-wiot/colosseumcli-public) and colosseum_cli.rst and faq/issues.rst of
colosseum-wiot/user-documentation. The program ends with exit status 0 when it could not schedule a
scenario, prints text before its JSON, and waits without end for a start time. A start needs more than 15 s
after a stop, and a radio map must list every node of the scenario. Batch jobs have no server for it.
"""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from splitfl.config import one_of
from splitfl.core.errors import ConfigError
from testbed.colosseum.remote_command import Completed, RunCommand
from testbed.errors import CommandFailed
from testbed.inventory.nodes import Inventory

CLEAR_S: Final = 16.0
"""Seconds from a stop until the next start."""
_CALL_S: Final = 30.0
_SSH_S: Final = 15.0
_MAX_SRN: Final = 128
_MAP: Final = "/tmp/splitfl-radio-map.json"
_OVER: Final = ("", "COMPLETED", "ABORTED", "CLEARED", "ERROR")
_TIMED_OUT, _NOT_FOUND = 124, 127  # exit statuses of timeout
_REASONS: Final[Mapping[str, str]] = {
    "can not connect to server": "it reaches no server: none is there in a batch job or before a reservation",
    "'srn_radio_mapping'": "no scenario has been started yet",
    "NoneType": "the scenario has no start time yet",
}
_STARTED: Final = re.compile(r"Scenario Start Time is (\S+)")


@dataclass(frozen=True, kw_only=True)
class ScenarioInfo:
    """The current or last scenario: its number, "" without one, and what Colosseum says of it."""

    scenario_id: str
    status: str
    start_time: str
    is_cycled: bool
    nodes: str

    @property
    def is_active(self) -> bool:
        """Whether it is being started, or runs."""
        return self.status.upper() not in _OVER


@dataclass(frozen=True)
class ColosseumCli:
    """`colosseumcli` by way of a function that runs programs on an SRN.

    All methods raise CommandFailed with its own sentence where it failed, whatever its exit status.
    """

    run: RunCommand
    sleep: Callable[[float], None] = time.sleep

    def info(self) -> ScenarioInfo:
        """The current or last scenario."""
        found = self._json("rf", "info", "-f", "json")
        try:
            return ScenarioInfo(
                scenario_id=str(found["scenario_id"]),
                status=str(found["scenario_status"]),
                start_time=str(found["scenario_start_time"]),
                is_cycled=found["scenario_cycle"] in (True, "True", "true"),
                nodes=str(found["Number of Nodes"]),
            )
        except (KeyError, TypeError):
            raise CommandFailed(f"colosseumcli rf info reported {found!r}") from None

    def node_count(self, scenario_id: int) -> int:
        """The number of nodes of a scenario. Raises ConfigError for one that is not there."""
        rows = self._json("rf", "scenario", "nodelist", str(scenario_id), "-f", "json")
        if not rows:
            raise ConfigError(
                f"Colosseum has no RF scenario {scenario_id}; `colosseumcli rf scenario list` has all"
            )
        return len(rows)

    def radio_map(self) -> list[dict[str, Any]]:
        """A row for each node of the scenario: Node, SRN ("None" if unused), RadioA, RadioB."""
        rows: list[dict[str, Any]] = self._json("rf", "radiomap", "-f", "json")
        return rows

    def start(
        self, scenario_id: int, srns: Mapping[int, int], timeout_s: float, *, is_cycled: bool = False
    ) -> str:
        """Starts a scenario, unless it is active already; returns its start time as Colosseum writes it.

        `srns` maps nodes of the scenario to SRNs; if empty, Colosseum maps them in their order. Raises
        ConfigError for a node that the scenario does not have, and while another scenario, or this one with
        other SRNs, is active.
        """
        places = self.node_count(scenario_id)
        for node in srns:
            if not 1 <= node <= places:
                raise ConfigError(f"RF scenario {scenario_id} has nodes 1 to {places}, got node {node}")
        if (now := self.info()).is_active:
            if now.scenario_id == str(scenario_id) and (not srns or srns == self._mapped()):
                return now.start_time
            srn = " with other SRNs" if now.scenario_id == str(scenario_id) else ""
            raise ConfigError(f"scenario {now.scenario_id} is {now.status}{srn}: stop it first")
        words = ["rf", "start", str(scenario_id)]
        if srns:
            self._write_map(radio_map(srns, places))
            words += ["-m", _MAP]
        done = self._call([*words, *(["-c"] if is_cycled else [])], timeout_s)
        started = _STARTED.search(done.output)
        if started is None:
            raise CommandFailed(f"scenario {scenario_id} was not started: {_sentence(done, timeout_s)}")
        return started[1]

    def stop(self) -> None:
        """Stops the scenario, and returns when the next one may be started."""
        done = self._call(["rf", "stop"], _CALL_S)
        if "successfully sent" not in done.output:
            raise CommandFailed(f"the scenario was not stopped: {_sentence(done, _CALL_S)}")
        self.sleep(CLEAR_S)
        if (now := self.info()).is_active:
            still = f"is still {now.status} {CLEAR_S:g} s after its stop"
            raise CommandFailed(f"scenario {now.scenario_id} {still}")

    def _mapped(self) -> dict[int, int]:
        """The SRN of each node of the active scenario that is in use."""
        used = (row for row in self.radio_map() if str(row["SRN"]) != "None")
        return {int(str(row["Node"]).removeprefix("Node ")): int(row["SRN"]) for row in used}

    def _write_map(self, table: Mapping[str, Any]) -> None:
        done = self.run(["sh", "-c", f"cat >{_MAP}"], _CALL_S, json.dumps(table))
        if done.code:
            raise CommandFailed(f"the radio map could not be written to {_MAP}: {done.last_line}")

    def _json(self, *words: str) -> Any:
        """The JSON that a command prints. Text before an empty result is the reason for it."""
        done = self._call(words, _CALL_S)
        text = re.search(r"^[\[{].*", done.output, re.MULTILINE | re.DOTALL)
        if text is None:
            raise CommandFailed(f"colosseumcli {' '.join(words[:2])}: {_sentence(done, _CALL_S)}")
        found, _ = json.JSONDecoder().raw_decode(text[0])
        if not found and (said := done.output[: text.start()].strip()):
            raise CommandFailed(f"colosseumcli {' '.join(words[:2])}: {said.splitlines()[-1]}")
        return found

    def _call(self, words: Sequence[str], limit_s: float) -> Completed:
        limited = ["timeout", f"{limit_s:g}", "colosseumcli", *words]
        return self.run(limited, limit_s + _SSH_S, "")


def radio_map(srns: Mapping[int, int], places: int) -> dict[str, Any]:
    """The radio map of a scenario: both radios of each node's SRN, "None" for unused nodes.

    Raises ConfigError for a number that no SRN has, and an SRN that is there twice.
    """
    for node, srn in srns.items():
        if not 1 <= srn <= _MAX_SRN:
            raise ConfigError(f"the SRN of node {node} must lie in 1..{_MAX_SRN}, got {srn}")
        if list(srns.values()).count(srn) > 1:
            raise ConfigError(f"SRN {srn} stands for more than one node")
    return {
        f"Node {node}": {"SRN": srns[node], "RadioA": 1, "RadioB": 2} if node in srns else "None"
        for node in range(1, places + 1)
    }


def srns_of(inventory: Inventory, settings: Sequence[str]) -> dict[int, int]:
    """The SRN of each `rf_node` of an inventory, from settings like `ue1=12`; empty without any.

    Raises ConfigError for an unknown node, one without rf_node, and if a node with rf_node is left out.
    """
    places = {node.name: node.rf_node for node in inventory.nodes if node.rf_node}
    found: dict[int, int] = {}
    for setting in settings:
        name, _, srn = setting.partition("=")
        one_of("node with an rf_node", name, places)
        if not srn.isdecimal():
            raise ConfigError(f"--srn must be NODE=SRN with the SRN's number, got {setting!r}")
        found[places[name]] = int(srn)
    missing = [name for name, place in places.items() if place not in found]
    if settings and missing:
        raise ConfigError(
            f"--srn must be given for every node with an rf_node; it lacks {', '.join(missing)}"
        )
    return found


def _sentence(done: Completed, limit_s: float) -> str:
    """Why a call failed, from what it printed."""
    if done.code == _NOT_FOUND:
        return "colosseumcli is not installed on the node; Colosseum's own images have it"
    for mark, reason in _REASONS.items():
        if mark in done.output:
            return reason
    lines = [line.strip() for line in done.output.splitlines() if line.strip()]
    at = next((number for number, line in enumerate(lines) if "Colosseum failed" in line), None)
    said = ": ".join(lines[at:]) if at is not None else done.last_line
    return f"{said} (no answer within {limit_s:g} s)" if done.code == _TIMED_OUT else said
