"""RF scenarios of Colosseum that its public documentation describes, and their like among our own.

After scenarios/test_scenarios and scenarios/fixed_pathloss_scenarios of colosseum-wiot/user-documentation: in
these all paths have the same constant loss and one tap. Scenarios with recorded or simulated taps, as SCOPE's
1017, are not published.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from channel.scenario.load import Scenario, changed, load
from splitfl.core.errors import ConfigError
from testbed.inventory.nodes import Inventory

_LIKE: Final = "colosseum-path-loss"
"""Our scenario of constant losses, whose carrier and powers are taken over."""
_OWN_LOSS_DB: Final = 80.0
"""The loss of cables and converters, which Colosseum does not publish: chosen so that paths of 0 dB have a
downlink SNR of 34 dB, and those of 30 dB still 4 dB."""


@dataclass(frozen=True, kw_only=True)
class RfScenario:
    """An RF scenario: the number of its nodes, and the loss of each path in dB."""

    nodes: int
    loss_db: float


RF_SCENARIOS: Final[Mapping[int, RfScenario]] = {
    1009: RfScenario(nodes=10, loss_db=0.0),
    10009: RfScenario(nodes=25, loss_db=0.0),
    **{51000 + loss: RfScenario(nodes=20, loss_db=float(loss)) for loss in range(5, 31, 5)},
}


def check_rf_nodes(inventory: Inventory) -> None:
    """Raises ConfigError for an rf_node that the scenario does not have, if its nodes are known."""
    known = RF_SCENARIOS.get(inventory.scenario.id)
    for node in inventory.nodes:
        if known is not None and node.rf_node > known.nodes:
            raise ConfigError(
                f"nodes.{node.name}.rf_node must lie in 1..{known.nodes}, the nodes of RF scenario "
                f"{inventory.scenario.id}, got {node.rf_node}"
            )


def emulated(rf_scenario: int, clients: int) -> Scenario:
    """The scenario of our own that stands for it, with a base station and this number of clients.

    Raises ConfigError for one whose paths are not known here.
    """
    if rf_scenario not in RF_SCENARIOS:
        known = ", ".join(map(str, RF_SCENARIOS))
        raise ConfigError(
            f"the paths of RF scenario {rf_scenario} are not known here (those of {known} are): give "
            "--scenario with a file of them (.toml, .mat or .npz), or --rate, --delay and --loss"
        )
    loss_db, places = RF_SCENARIOS[rf_scenario].loss_db, range(clients + 1)
    paths_db = tuple(tuple(0.0 if here == there else loss_db for there in places) for here in places)
    tables: dict[str, dict[str, Any]] = {
        "place": {"users": clients, "loss_db": _OWN_LOSS_DB},
        "links": {"loss_db": paths_db},
    }
    return changed(load(_LIKE), tables)
