"""RF scenarios of Colosseum as scenarios of our own."""

import pytest

from splitfl.core.errors import ConfigError
from testbed.colosseum.rf_scenarios import RF_SCENARIOS, check_rf_nodes, emulated
from testbed.inventory.load import read
from testbed.inventory.nodes import Inventory


def test_every_path_has_the_loss_of_the_rf_scenario() -> None:
    assert list(RF_SCENARIOS) == [1009, 10009, 51005, 51010, 51015, 51020, 51025, 51030]
    for number in RF_SCENARIOS:
        scenario = emulated(number, clients=3)
        assert scenario.place.users == 3
        paths_db = [loss for row in scenario.links.loss_db for loss in row if loss]
        loss_db = 0 if number < 50000 else number - 51000
        assert paths_db == [loss_db] * (4 * 3 if loss_db else 0)
        assert scenario.fading.profile == "none"


def test_a_node_that_the_scenario_does_not_have_is_refused() -> None:
    def with_node(number: int, scenario: int) -> Inventory:
        nodes = {"gpu": {}, "srn1": {"rf_node": number}}
        return read({"server": "gpu", "nodes": nodes, "scenario": {"id": scenario}})

    check_rf_nodes(with_node(10, 1009))
    check_rf_nodes(with_node(99, 1017))  # whose nodes are not known here
    with pytest.raises(ConfigError, match=r"nodes.srn1.rf_node must lie in 1..10, .* scenario 1009, got 11"):
        check_rf_nodes(with_node(11, 1009))


def test_a_scenario_whose_taps_are_not_published_needs_a_file() -> None:
    with pytest.raises(ConfigError, match=r"the paths of RF scenario 1017 are not known here.*--scenario"):
        emulated(1017, clients=3)
