from dataclasses import replace

import numpy as np
import pytest

from channel import scenario
from channel import taps as tap_files
from channel.building import cell_of
from channel.errors import BadParameter
from channel.scenario import parse

LINKS = "[place]\nenvironment = 'links'\n"
TAPS = "[place]\nenvironment = 'taps'\n"
WRITTEN = "[taps]\ntime_s = [0, 1]\ndelay_s = [1e-7]\ndoppler_hz = [5]\ngain_db = [[[-1], [-2]]]\n"
QUIET = "[fading]\nprofile = 'none'\n"


def test_the_scenarios_are_these_and_say_where_their_numbers_come_from():
    wanted = {"ideal", "lab-wifi", "indoor-hotspot", "urban-micro", "urban-macro-edge", "vehicular", "jammed"}
    wanted |= {"congested-cell", "colosseum-path-loss", "colosseum-taps"}
    assert set(scenario.names()) == wanted
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
        ("[place]\nradius_m = -5", "radius_m must be above 10, got -5"),
        ("[place]\ninner_m = -5", "inner_m must be at least 0, got -5"),
        ("[place]\npositions_m = [[1, 2, 3]]\nusers = 1", "positions_m must be pairs of x and y"),
        ("[carrier]\nfrequency_hz = -1", "frequency_hz must be above 0, got -1"),
        ("[links]\nloss_db = [[0, 1], [1, 0]]", "links must be there for that environment only, got a table"),
        (LINKS + "[links]", "links must be there for that environment only, got no table for 'links'"),
        (LINKS + "[links]\nloss_db = [[0, 1]]", "loss_db of links must be a square of at least 2 nodes"),
        (LINKS + "[links]\nloss_db = [[0, -1], [1, 0]]", "loss_db of links must be at least 0, got -1"),
        (LINKS + "[links]\nloss_db = [[0, 1], [1, 3]]", "loss_db of links must be 0 from a node to itself"),
        (LINKS + "users = 2\n[links]\nloss_db = [[0, 1], [1, 0]]", "users must be at most 1, all nodes but"),
        (
            LINKS + "users = 1\n[links]\nloss_db = [[0, 1], [1, 0]]\n[jammer]\nkind = 'pulse'",
            "need distances",
        ),
        (TAPS + "[taps]", "taps must be there for that environment only, got no table for 'taps'"),
        (TAPS + "[taps]\nfile = 'x.mat'", "profile must be none and speed_m_s 0 where taps are given"),
        (TAPS + "[taps]\nfile = 'x.pkl'", "file of taps must end in .mat or .npz, got 'x.pkl'"),
        (
            TAPS + "[taps]\nfile = 'x.mat'\ntime_s = [0, 1]",
            "a file or be written out, got file and",
        ),
        (
            TAPS + WRITTEN.replace("[0, 1]", "[1, 0]"),
            "time_s of taps must not go back, got 0 after 1",
        ),
        (TAPS + WRITTEN.replace("[[-1], [-2]]", "[[-1]]"), "must have 2 rows of 1 numbers for user 0"),
        (TAPS + WRITTEN.replace("[1e-7]", "[-1e-7]"), "delay_s of taps must be at least 0, got -1e-07"),
        (TAPS + WRITTEN.replace("[5]", "[]"), "doppler_hz of taps must have 1 numbers, got 0"),
        (TAPS + WRITTEN.replace("-2", "-inf"), "gain_db of taps must hold finite numbers"),
        ("[place", "a scenario must be TOML"),
    ],
)
def test_bad_input_is_refused(text, message):
    with pytest.raises(BadParameter, match=message):
        parse(text)


def test_an_unknown_scenario_is_refused_with_the_nearest():
    with pytest.raises(BadParameter, match=r"unknown scenario 'urban-mikro'; did you mean 'urban-micro'\?"):
        scenario.load("urban-mikro")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[link]\ntable = '512qam'", "512qam"),
        ("[link]\ntarget = 2", r"target must lie in \[0.001, 0.999\], got 2"),
        ("[fading]\nprofile = 'Z'", "profile must be one of A, B, C, D, E, got 'Z'"),
        ("[fading]\ndelay_spread_s = -1", "delay_spread_s must be at least 0, got -1"),
        ("[link]\nscheduler = 'fifo'", "fifo"),
        ("[carrier]\ngroups = -1", "groups must be a whole number of at least 1, got -1"),
        ("[carrier]\nblocks_per_group = -4", "blocks_per_group must be a whole number of at least 1, got -4"),
        ("[link]\nharq = 'hope'", "hope"),
        (TAPS + "users = 2\n" + QUIET + WRITTEN, "users must be at most 1, all nodes but one, got 2"),
        (TAPS + QUIET + "[taps]\nfile = 'x.mat'", "file of taps must be there, got 'x.mat'"),
    ],
)
def test_bad_input_that_only_a_cell_knows_is_refused_by_it(text, message):
    with pytest.raises(BadParameter, match=message):
        cell_of(parse(text))


def test_links_lose_what_their_row_and_column_say():
    text = (
        LINKS + "users = 2\nloss_db = 90\n" + QUIET + "[links]\nloss_db = [[0, 5, 9], [6, 0, 1], [30, 1, 0]]"
    )
    airs = cell_of(parse(text)).airs
    place = airs["up"].place_U2(0)
    assert -10 * np.log10(airs["down"].ground.gain(place)) == pytest.approx([95.0, 99.0])
    assert -10 * np.log10(airs["up"].ground.gain(place)) == pytest.approx([96.0, 120.0])


def test_written_taps_go_in_a_straight_line_and_turn():
    taps = parse(TAPS + "users = 1\n" + QUIET + WRITTEN).taps.node_taps()
    assert taps.time_s_T.size == 1001
    middle = taps.gain_NNTL[0, 1, 500, 0]
    assert 20 * np.log10(np.abs(middle)) == pytest.approx(-1.5)
    assert np.angle(middle) == pytest.approx(np.angle(np.exp(2j * np.pi * 5 * 0.5)), abs=1e-6)


def test_a_file_of_taps_stands_beside_its_scenario_and_is_one_by_itself(tmp_path):
    made = parse(TAPS + "users = 1\n" + QUIET + WRITTEN)
    tap_files.write_npz(tmp_path / "x.npz", made.taps.node_taps())
    (tmp_path / "s.toml").write_text(TAPS + "users = 1\n" + QUIET + "[taps]\nfile = 'x.npz'\n")
    levels = [
        cell_of(one).airs["down"].mean_sinr_db(0)
        for one in (made, scenario.load(str(tmp_path / "s.toml")), scenario.load(str(tmp_path / "x.npz")))
    ]
    assert levels[0] == levels[1] == levels[2]


def test_users_stand_where_no_neighbour_is_heard_better():
    made = scenario.load("urban-macro-edge")
    air = cell_of(replace(made, place=replace(made.place, users=100))).airs["down"]
    place_U2 = air.place_U2(0)
    others_S2 = np.concatenate([one.place_S2 for one in air.disturbances])
    assert len(others_S2) == 6
    assert np.all(air.ground.gain(place_U2) >= air.ground.far_gain(place_U2, others_S2).max(axis=1))
    # Of seven equally loud at most: 10 log10 (1 / (6 load)).
    assert air.mean_sinr_db(0).min() > -10.0 * np.log10(6.0 * made.neighbours.load) - 0.5
    distance_m = np.hypot(*place_U2.T)
    assert (distance_m.min() >= 200.0, distance_m.max() <= 290.0) == (True, True)


def test_a_place_that_a_neighbour_serves_everywhere_is_refused():
    made = parse(
        "[place]\nenvironment = 'log-distance'\nexponent = 3.0\ninner_m = 400.0\nradius_m = 401.0\n"
        "[neighbours]\nrings = 1\nspacing_m = 300.0"
    )
    with pytest.raises(BadParameter, match="points where no neighbour is heard better, got none in 1000"):
        cell_of(made)
