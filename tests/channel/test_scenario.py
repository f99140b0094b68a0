import pytest

from channel import scenario
from channel.errors import BadParameter
from channel.scenario import parse


def test_the_scenarios_are_these_and_say_where_their_numbers_come_from():
    wanted = {"ideal", "lab-wifi", "indoor-hotspot", "urban-micro", "urban-macro-edge", "vehicular", "jammed"}
    assert set(scenario.names()) == wanted | {"congested-cell"}
    for name in scenario.names():
        assert scenario.load(name).about
        assert scenario.load(name).sources


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[place]\nuzers = 3", r"unknown key 'place.uzers'; did you mean 'users'\?"),
        ("plase = 3", r"unknown key 'plase'; did you mean 'place'\?"),
        ("place = 3", "place must be a table, got 3"),
        ("[place]\nusers = 2.5", "place.users must be of type int, got 2.5"),
        (
            "[place]\nusers = 3\npositions_m = [[1, 2], [3, 4]]",
            "users must be at most the 2 pos",
        ),
        ("[place]\nspeed_m_s = -1", "speed_m_s must be at least 0, got -1"),
        ("[carrier]\nsubcarrier_hz = -1", "subcarrier_hz must be 15000, .*, got -1"),
        ("[jammer]\nduty = 2", r"duty must lie in \[0, 1\], got 2"),
        ("[place", "a scenario must be TOML"),
    ],
)
def test_bad_input_is_refused(text, message):
    with pytest.raises(BadParameter, match=message):
        parse(text)


def test_an_unknown_scenario_is_refused_with_the_nearest():
    with pytest.raises(BadParameter, match=r"unknown scenario 'urban-mikro'; did you mean 'urban-micro'\?"):
        scenario.load("urban-mikro")
