"""The JSON file of a Colosseum batch job.

After batch_mode_format.rst and scenario_looping.rst of colosseum-wiot/user-documentation. Numbers and
booleans are written as such; files with strings in their place, which Colosseum has accepted, are read.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitfl.config import one_of
from splitfl.core.errors import ConfigError
from testbed.colosseum.rf_scenarios import RF_SCENARIOS
from testbed.colosseum.rules import Rules

NODE_TYPES: Final = ("competitor", "bot")
_KEYS: Final = ("BatchName", "Duration", "RFScenario", "TrafficScenario", "NodeData", "Loopinfo")
_NODE_KEYS: Final = ("RFNode_ID", "ImageName", "ModemConfig", "isGateway", "TrafficNode_ID", "node_type")


@dataclass(frozen=True, kw_only=True)
class BatchNode:
    """One SRN of a batch job.

    `config` is the name of its file in the team's folder `config`; it becomes radio.conf in the container.
    A gateway is connected to the wired network col0. A node of type "bot" can be reached by ssh.
    """

    rf_node: int
    image: str
    config: str
    is_gateway: bool = False
    traffic_node: int
    node_type: str = "competitor"


@dataclass(frozen=True, kw_only=True)
class BatchJob:
    """A batch job, valid by construction. Raises ConfigError.

    `duration_s` is that of one loop. `scenario_nodes` is the number of nodes of the RF scenario, 0 to take
    it from `RF_SCENARIOS`.
    """

    name: str
    duration_s: int
    rf_scenario: int
    traffic_scenario: int
    nodes: tuple[BatchNode, ...]
    loops: int = 1
    scenario_nodes: int = 0
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ConfigError("BatchName must not be empty")
        for key, value in (
            ("Duration", self.duration_s),
            ("RFScenario", self.rf_scenario),
            ("TrafficScenario", self.traffic_scenario),
            ("NumOfLoops", self.loops),
        ):
            if value < 1:
                raise ConfigError(f"{key} must be at least 1, got {value}")
        _require_nodes(self.nodes, self.rules)
        self._require_places()

    @property
    def reserved_s(self) -> float:
        """How long the job is, from its start to the removal of its containers."""
        rules = self.rules
        return rules.ready_s + rules.prepare_s + self.loops * self.duration_s + rules.cleanup_s

    def as_table(self) -> dict[str, Any]:
        """The contents of the file."""
        is_text = self.rules.loop_enabled == "text"
        looping = {"Loopinfo": {"Enabled": "True" if is_text else True, "NumOfLoops": self.loops}}
        return {
            "BatchName": self.name,
            "Duration": self.duration_s,
            "RFScenario": self.rf_scenario,
            "TrafficScenario": self.traffic_scenario,
            **(looping if self.loops > 1 else {}),
            "NodeData": [
                {
                    "RFNode_ID": node.rf_node,
                    "ImageName": node.image,
                    "ModemConfig": node.config,
                    "isGateway": node.is_gateway,
                    "TrafficNode_ID": node.traffic_node,
                    "node_type": node.node_type,
                }
                for node in self.nodes
            ],
        }

    def _require_places(self) -> None:
        known = RF_SCENARIOS.get(self.rf_scenario)
        places = self.scenario_nodes or (known.nodes if known else 0)
        if not places:
            raise ConfigError(
                f"the number of nodes of RF scenario {self.rf_scenario} is unknown here: give it "
                "(`colosseumcli rf scenario nodelist`, or Colosseum's page of the scenario)"
            )
        if len(self.nodes) > places:
            raise ConfigError(
                f"RF scenario {self.rf_scenario} has {places} nodes, but the batch has {len(self.nodes)}"
            )


def read_batch(path: Path, rules: Rules, scenario_nodes: int = 0) -> BatchJob:
    """The batch job in a file. Raises ConfigError, with the path."""
    try:
        return _batch(json.loads(path.read_text(encoding="utf-8-sig")), rules, scenario_nodes)
    except (OSError, ValueError, RecursionError) as error:  # ConfigError is a ValueError
        raise ConfigError(f"{path}: {error}") from None


def _require_nodes(nodes: Sequence[BatchNode], rules: Rules) -> None:
    _require_numbering("RFNode_ID", [node.rf_node for node in nodes])
    _require_numbering("TrafficNode_ID", [node.traffic_node for node in nodes])
    for node in nodes:
        rules.image_name(node.image)
        if not node.config or "/" in node.config or node.config in (".", ".."):
            raise ConfigError(
                f"ModemConfig must be the name of a file in the team's folder config, without a slash, "
                f"got {node.config!r}"
            )
        one_of("node_type", node.node_type, NODE_TYPES)


def _require_numbering(key: str, numbers: Sequence[int]) -> None:
    if not numbers:
        raise ConfigError("NodeData must have at least one node")
    if sorted(numbers) != list(range(1, len(numbers) + 1)):
        raise ConfigError(
            f"{key} must number the nodes 1 to {len(numbers)}, each once, got {sorted(numbers)}"
        )


def _batch(table: Any, rules: Rules, scenario_nodes: int) -> BatchJob:
    _require_keys("the batch", table, _KEYS, optional=("Loopinfo",))
    loops = 1
    if "Loopinfo" in table:
        _require_keys("Loopinfo", table["Loopinfo"], ("Enabled", "NumOfLoops"))
        if _flag("Enabled", table["Loopinfo"]["Enabled"]):
            loops = _number("NumOfLoops", table["Loopinfo"]["NumOfLoops"])
    if not isinstance(table["NodeData"], list):
        raise ConfigError(f"NodeData must be a list, got {table['NodeData']!r}")
    return BatchJob(
        name=_text("BatchName", table["BatchName"]),
        duration_s=_number("Duration", table["Duration"]),
        rf_scenario=_number("RFScenario", table["RFScenario"]),
        traffic_scenario=_number("TrafficScenario", table["TrafficScenario"]),
        nodes=tuple(map(_node, table["NodeData"])),
        loops=loops,
        scenario_nodes=scenario_nodes,
        rules=rules,
    )


def _node(table: Any) -> BatchNode:
    _require_keys("a node of NodeData", table, _NODE_KEYS)
    return BatchNode(
        rf_node=_number("RFNode_ID", table["RFNode_ID"]),
        image=_text("ImageName", table["ImageName"]),
        config=_text("ModemConfig", table["ModemConfig"]),
        is_gateway=_flag("isGateway", table["isGateway"]),
        traffic_node=_number("TrafficNode_ID", table["TrafficNode_ID"]),
        node_type=_text("node_type", table["node_type"]),
    )


def _require_keys(where: str, table: Any, keys: Sequence[str], optional: Sequence[str] = ()) -> None:
    if not isinstance(table, dict):
        raise ConfigError(f"{where} must be a table, got {table!r}")
    for key in table:
        one_of(f"key of {where}", key, keys)
    for key in keys:
        if key not in table and key not in optional:
            raise ConfigError(f"{where} must have the key {key}")


def _number(key: str, value: Any) -> int:
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"{key} must be a whole number, got {value!r}")
    return value


def _flag(key: str, value: Any) -> bool:
    found = {"true": True, "false": False}.get(str(value).lower())
    if found is None:
        raise ConfigError(f"{key} must be true or false, got {value!r}")
    return found


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{key} must be a string, got {value!r}")
    return value
