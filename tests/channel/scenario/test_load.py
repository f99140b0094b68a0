from dataclasses import fields, replace

import numpy as np
import pytest

from channel.cell.build_cell import cell_of
from channel.core.errors import BadParameter
from channel.propagation import recorded_taps as tap_files
from channel.scenario import load as scenario
from channel.scenario.load import parse
from channel.scenario.ranges import RANGES

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
        ("[place]\nspeed_m_s = -1", r"place.speed_m_s must lie in \[0, 500\] m/s, got -1"),
        ("[carrier]\nsubcarrier_hz = -1", "subcarrier_hz must be 15000, .*, got -1"),
        ("[jammer]\nduty = 2", r"duty must lie in \[0, 1\], got 2"),
        ("[place]\nradius_m = -5", r"place.radius_m must lie in \[0, 100000\] m, got -5"),
        ("[place]\ninner_m = -5", r"place.inner_m must lie in \[0, 100000\] m, got -5"),
        (
            "[place]\npositions_m = [[1, 2, 3]]\nusers = 1",
            r"place.positions_m of user 0 must be two numbers in metres, x and y, got \[1, 2, 3\]",
        ),
        ("[carrier]\nfrequency_hz = -1", r"carrier.frequency_hz must lie in \[1e\+06, 3e\+11\] Hz, got -1"),
        (
            "[links]\nloss_db = [[0, 1], [1, 0]]",
            r"\[links\] belongs to place.environment 'links' only, got a table",
        ),
        (
            LINKS + "[links]",
            r"\[links\] belongs to place.environment 'links' only, got no table with 'links'",
        ),
        (LINKS + "[links]\nloss_db = [[0, 1]]", "loss_db of links must be a square of at least 2 nodes"),
        (LINKS + "[links]\nloss_db = [[0, -1], [1, 0]]", r"loss_db of links must lie in \[0, 400\], got -1"),
        (LINKS + "[links]\nloss_db = [[0, 1], [1, 3]]", "loss_db of links must be 0 from a node to itself"),
        (LINKS + "users = 2\n[links]\nloss_db = [[0, 1], [1, 0]]", "users must be at most 1, all nodes but"),
        (
            LINKS + "users = 1\n[links]\nloss_db = [[0, 1], [1, 0]]\n[jammer]\nkind = 'pulse'",
            "need distances",
        ),
        (TAPS + "[taps]", r"\[taps\] belongs to place.environment 'taps' only, got no table with 'taps'"),
        (TAPS + "[taps]\nfile = 'x.mat'", "profile must be none and speed_m_s 0 with taps"),
        (TAPS + "[taps]\nfile = 'x.pkl'", "file of taps must end in .mat or .npz, got 'x.pkl'"),
        (
            TAPS + "[taps]\nfile = 'x.mat'\ntime_s = [0, 1]",
            "a file or inline values, got file and",
        ),
        (
            TAPS + WRITTEN.replace("[0, 1]", "[1, 0]"),
            "time_s of taps must not decrease, got 0 after 1",
        ),
        (TAPS + WRITTEN.replace("[[-1], [-2]]", "[[-1]]"), "must have 2 rows of 1 numbers for user 0"),
        (TAPS + WRITTEN.replace("[1e-7]", "[-1e-7]"), "delay_s of taps must be at least 0, got -1e-07"),
        (TAPS + WRITTEN.replace("[5]", "[]"), "doppler_hz of taps must have 1 numbers, got 0"),
        (TAPS + WRITTEN.replace("-2", "-inf"), "taps.gain_db must hold finite numbers, got -inf"),
        ("[place", "a scenario must be TOML"),
        ("[jammer]\nposition_m = [50]", r"jammer.position_m must be two numbers in metres.*, got \[50\]"),
        (
            "[jammer]\nposition_m = [50, 0, 10]",
            r"jammer.position_m must be two numbers .*, got \[50, 0, 10\]",
        ),
        ("[jammer]\nposition_m = [[1], [2]]", r"jammer.position_m must be two numbers"),
        (
            "[place]\nusers = 1\npositions_m = [['a', 'b']]",
            r"place.positions_m of user 0 must be two numbers",
        ),
        (
            "[place]\nusers = 1\npositions_m = [['1', '2']]",
            r"place.positions_m of user 0 must be two numbers",
        ),
        ("[place]\nusers = 2\npositions_m = [1.0, 2.0]", r"of user 0 must be two numbers .*, got 1.0"),
        ("[place]\nusers = 1\npositions_m = [[1e9, 0]]", r"must lie in \[-100000, 100000\] m, x and y"),
        (
            "[link]\ntdd = 'DDDSU'",
            "link.tdd .* letters D and U, .*; got 'DDDSU'; a special slot S is not mod",
        ),
        ("[link]\ntdd = 'DD'", "link.tdd must be empty .FDD. or .* at least one of each.*; got 'DD'"),
        ("[link]\nharq = 'none'", "link.max_tries must be 1 where link.harq is none, got 4"),
        ("[place]\nloss_db = nan", "^place.loss_db must be a finite number, got nan"),
        ("[carrier]\nantenna_gain_db = inf", "^carrier.antenna_gain_db must be a finite number, got inf"),
        (
            "[place]\nusers = 1\npositions_m = [[nan, 1]]",
            "^place.positions_m must hold finite numbers, got nan",
        ),
        ("duration_s = inf", "^duration_s must be a finite number, got inf"),
        (LINKS + "[links]\nloss_db = [['0', '1'], ['1', '0']]", "loss_db of links must hold numbers, got"),
        (
            TAPS + QUIET + WRITTEN.replace("[0, 1]", "[0]"),
            "time_s of taps must hold at least two strictly increasing times",
        ),
        (
            TAPS + QUIET + WRITTEN.replace("[0, 1]", "[0, 0]"),
            r"strictly increasing times from 0 .*, got \[0, 0\]",
        ),
        (
            TAPS + QUIET + WRITTEN.replace("[0, 1]", "[1, 2]"),
            r"strictly increasing times from 0 .*, got \[1, 2\]",
        ),
        (TAPS + QUIET + WRITTEN.replace("[0, 1]", "[0, 1e9]"), r"nodes\^2 x milliseconds"),
        (
            TAPS + QUIET + WRITTEN.replace("[1e-7]", "[100]"),
            "delay_s of taps .*, got 100; 100 ns are 1e-07 s",
        ),
        ("[place]\nusers = 1000000", r"place.users must be a whole number in \[1, 10000\], got 1000000"),
        (
            "[place]\nusers = 10000\n[carrier]\ngroups = 100",
            "place.users times carrier.groups must be at most",
        ),
        ("[place]\nusers = 10000\n[fading]\nwaves = 200", "place.users times fading.waves must be at most"),
        (
            "[fading]\nwaves = 1000000000",
            r"fading.waves must be a whole number in \[1, 256\], got 1000000000",
        ),
        (
            "[carrier]\ngroups = 100000000",
            r"carrier.groups must be a whole number in \[1, 275\], got 100000000",
        ),
        ("[carrier]\ngroups = 200\nblocks_per_group = 100", "at most 4400 resource blocks, got 20000"),
        ("[carrier]\nfrequency_hz = 2e8", r"must lie in \[5e\+08, 1e\+11\] for urban-micro, got 2e\+08"),
        (
            "[jammer]\nkind = 'pulse'\nperiod_s = 0.0005",
            "leave pulses and pauses of at least a slot, 0.0005 s",
        ),
        ("[jammer]\nkind = 'bursts'\nduty = 1e-9", r"jammer.duty of bursts must lie in \[0.001, 0.999\]"),
    ],
)
def test_bad_input_is_refused(text, message):
    with pytest.raises(BadParameter, match=message):
        parse(text)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("[fading]\ndelay_spread_s = 100.0", "got 100; 100 ns are 1e-07 s"),
        ("[fading]\ndelay_spread_s = 0.3", "got 0.3; 0.3 us are 3e-07 s"),
        ("[carrier]\nfrequency_hz = 3.5", r"got 3.5; 3.5 GHz are 3.5e\+09 Hz"),
        ("[carrier]\nfrequency_hz = 3500.0", r"got 3500; 3500 MHz are 3.5e\+09 Hz"),
        ("[carrier]\nsubcarrier_hz = 30.0", "got 30; 30 kHz are 30000 Hz"),
        ("[carrier]\nbase_dbm = 20000.0", "got 20000; 20000 mW are 43.0103 dBm"),
        ("[device]\ntransmit_dbm = 200.0", "got 200; 200 mW are 23.0103 dBm"),
        ("[device]\nsend_circuit_w = 300.0", "got 300; 300 mW are 0.3 W"),
        ("[link]\nround_trip_s = 80.0", "got 80; 80 ms are 0.08 s"),
        ("[link]\ntarget = 10.0", "got 10; 10% are 0.1"),
        ("[neighbours]\nload = 50.0", "got 50; 50% are 0.5"),
        ("[jammer]\nduty = 25.0", "got 25; 25% are 0.25"),
        ("[place]\nspeed_m_s = 900.0", "got 900; 900 km/h are 250 m/s"),
    ],
)
def test_a_number_in_another_unit_is_refused_with_that_unit(text, hint):
    with pytest.raises(BadParameter, match=hint):
        parse(text)


@pytest.mark.parametrize("duty", [0.0, 1.0])
def test_a_jammer_that_never_changes_may_have_any_period(duty):
    assert parse(f"[jammer]\nkind = 'pulse'\nduty = {duty}\nperiod_s = 0.0001").jammer.duty == duty


def test_every_number_of_a_scenario_has_a_range_and_its_default_lies_in_it():
    tables = {"": scenario.Scenario, **scenario.TABLES}
    numbers = {
        f"{table}.{one.name}".lstrip("."): one.default
        for table, kind in tables.items()
        for one in fields(kind)
        if one.type in (int, float)
    }
    # A seed is any number, and a subcarrier one of four.
    assert numbers.keys() - RANGES.keys() == {"seed", "carrier.subcarrier_hz"}
    assert RANGES.keys() <= numbers.keys()
    for key, known in RANGES.items():
        known.demand(key, numbers[key])
        with pytest.raises(BadParameter, match=f"^{key} must lie in .*, got nan"):
            known.demand(key, float("nan"))


def test_endings_in_capitals_are_read_as_well(tmp_path):
    made = parse(TAPS + "users = 1\n" + QUIET + WRITTEN)
    tap_files.write_npz(tmp_path / "X.NPZ", made.taps.node_taps())
    (tmp_path / "S.TOML").write_text("\ufeff" + TAPS + "users = 1\n" + QUIET + "[taps]\nfile = 'X.NPZ'\n")
    assert scenario.load(str(tmp_path / "S.TOML")).taps.node_taps().users == 1
    assert scenario.load(str(tmp_path / "X.NPZ")).place.users == 1


def test_an_unknown_scenario_is_refused_with_the_nearest():
    with pytest.raises(BadParameter, match=r"unknown scenario 'urban-mikro'; did you mean 'urban-micro'\?"):
        scenario.load("urban-mikro")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[link]\ntable = '512qam'", "512qam"),
        ("[link]\ntarget = 2", r"target must lie in \[0.001, 0.999\], got 2"),
        ("[fading]\nprofile = 'Z'", "fading.profile must be one of none, A, B, C, D, E, got 'Z'"),
        ("[fading]\ndelay_spread_s = -1", r"fading.delay_spread_s must lie in \[0, 0.0001\] s, got -1"),
        ("[link]\nscheduler = 'fifo'", "fifo"),
        ("[carrier]\ngroups = -1", r"carrier.groups must be a whole number in \[1, 275\], got -1"),
        (
            "[carrier]\nblocks_per_group = -4",
            r"carrier.blocks_per_group must be a whole number in \[1, 275\], got -4",
        ),
        ("[link]\nharq = 'hope'", "hope"),
        (TAPS + "users = 2\n" + QUIET + WRITTEN, "users must be at most 1, all nodes but one, got 2"),
        (TAPS + QUIET + "[taps]\nfile = 'x.mat'", "file of taps must exist, got 'x.mat'"),
    ],
)
def test_input_that_only_the_cell_can_check_is_refused_by_it(text, message):
    with pytest.raises(BadParameter, match=message):
        cell_of(parse(text))


def test_prescribed_losses_are_those_of_row_and_column():
    text = (
        LINKS + "users = 2\nloss_db = 90\n" + QUIET + "[links]\nloss_db = [[0, 5, 9], [6, 0, 1], [30, 1, 0]]"
    )
    sinr_models = cell_of(parse(text)).sinr_models
    place = sinr_models["up"].place_U2(0)
    assert -10 * np.log10(sinr_models["down"].large_scale_loss.gain(place)) == pytest.approx([95.0, 99.0])
    assert -10 * np.log10(sinr_models["up"].large_scale_loss.gain(place)) == pytest.approx([96.0, 120.0])


def test_written_taps_go_in_a_straight_line_and_turn():
    taps = parse(TAPS + "users = 1\n" + QUIET + WRITTEN).taps.node_taps()
    assert taps.time_s_T.size == 1001
    middle = taps.gain_NNTL[0, 1, 500, 0]
    assert 20 * np.log10(np.abs(middle)) == pytest.approx(-1.5)
    assert np.angle(middle) == pytest.approx(np.angle(np.exp(2j * np.pi * 5 * 0.5)), abs=1e-6)


def test_a_taps_file_is_relative_to_its_scenario_and_is_a_scenario_by_itself(tmp_path):
    made = parse(TAPS + "users = 1\n" + QUIET + WRITTEN)
    tap_files.write_npz(tmp_path / "x.npz", made.taps.node_taps())
    (tmp_path / "s.toml").write_text(TAPS + "users = 1\n" + QUIET + "[taps]\nfile = 'x.npz'\n")
    levels = [
        cell_of(one).sinr_models["down"].mean_sinr_db(0)
        for one in (made, scenario.load(str(tmp_path / "s.toml")), scenario.load(str(tmp_path / "x.npz")))
    ]
    assert levels[0] == levels[1] == levels[2]


def test_users_start_where_no_neighbour_is_received_better():
    made = scenario.load("urban-macro-edge")
    air = cell_of(replace(made, place=replace(made.place, users=100))).sinr_models["down"]
    place_U2 = air.place_U2(0)
    others_S2 = np.concatenate([one.place_S2 for one in air.interferers])
    assert len(others_S2) == 6
    assert np.all(
        air.large_scale_loss.gain(place_U2) >= air.large_scale_loss.far_gain(place_U2, others_S2).max(axis=1)
    )
    # Of seven equally loud at most: 10 log10 (1 / (6 load)).
    assert air.mean_sinr_db(0).min() > -10.0 * np.log10(6.0 * made.neighbours.load) - 0.5
    distance_m = np.hypot(*place_U2.T)
    assert (distance_m.min() >= 200.0, distance_m.max() <= 290.0) == (True, True)


def test_a_place_that_a_neighbour_serves_everywhere_is_refused():
    made = parse(
        "[place]\nenvironment = 'log-distance'\nexponent = 3.0\ninner_m = 400.0\nradius_m = 401.0\n"
        "[neighbours]\nrings = 1\nspacing_m = 300.0"
    )
    with pytest.raises(
        BadParameter, match="positions where no neighbour is received better, got none in 1000"
    ):
        cell_of(made)
