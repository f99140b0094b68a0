"""RF scenarios of Colosseum as scenarios of our own."""

import pytest

from splitfl.core.errors import ConfigError
from testbed.colosseum.rf_scenarios import RF_SCENARIOS, emulated


def test_every_path_has_the_loss_of_the_rf_scenario() -> None:
    assert list(RF_SCENARIOS) == [1009, 10009, 51005, 51010, 51015, 51020, 51025, 51030]
    for number in RF_SCENARIOS:
        scenario = emulated(number, clients=3)
        assert scenario.place.users == 3
        paths_db = [loss for row in scenario.links.loss_db for loss in row if loss]
        loss_db = 0 if number < 50000 else number - 51000
        assert paths_db == [loss_db] * (4 * 3 if loss_db else 0)
        assert scenario.fading.profile == "none"


def test_a_scenario_whose_taps_are_not_published_needs_a_file() -> None:
    with pytest.raises(ConfigError, match=r"the paths of RF scenario 1017 are not known here.*--scenario"):
        emulated(1017, clients=3)
