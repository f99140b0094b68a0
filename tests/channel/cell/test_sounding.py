from dataclasses import replace

import numpy as np
import pytest

from channel.cell.build_cell import cell_of
from channel.cell.sounding import grouped, sounded
from channel.core.errors import BadParameter
from channel.propagation import recorded_taps as taps
from channel.propagation.tdl import PROFILES, rms_delay_spread
from channel.scenario import colosseum_file
from channel.scenario import load as scenario
from channel.scenario.colosseum import MAX_NODES
from channel.scenario.link_tables import TapsTable
from channel.scenario.load import Scenario
from channel.scenario.tables import FadingTable, PlaceTable
from tests.quick import quick


def replayed(made, sounding, path):
    """The same cell, its air taken from what was exported."""
    place = PlaceTable(environment="taps", users=made.place.users, loss_db=sounding.raised_db)
    carrier = replace(made.carrier, antenna_gain_db=0.0)
    table = TapsTable(file=str(path))
    around = {"neighbours": scenario.Scenario().neighbours, "jammer": scenario.Scenario().jammer}
    quiet = FadingTable(profile="none")
    return replace(
        made,
        place=place,
        carrier=carrier,
        fading=quiet,
        taps=table,
        links=scenario.Scenario().links,
        **around,
    )


@pytest.mark.parametrize("name", sorted(set(scenario.names()) - {"colosseum-taps"}))
def test_every_scenario_survives_export_and_import(name, tmp_path):
    made = scenario.load(name)
    made = replace(made, place=replace(made.place, users=min(made.place.users, 4)))
    sounding = sounded(made, duration_s=0.5, step_ms=250)
    colosseum_file.write(tmp_path / "x.mat", sounding.matrix)
    found = colosseum_file.read(tmp_path / "x.mat")
    assert np.array_equal(found.taps.gain_NNTL, sounding.matrix.taps.gain_NNTL)
    assert found.taps.time_s_T.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0]


@pytest.mark.parametrize("name", quick(["colosseum-path-loss", "ideal", "lab-wifi"], "lab-wifi"))
def test_a_replay_has_the_scenarios_own_levels(name, tmp_path):
    made = scenario.load(name)
    made = replace(made, fading=FadingTable(profile="none"), place=replace(made.place, speed_m_s=0.0))
    sounding = sounded(made, step_ms=500)
    colosseum_file.write(tmp_path / "x.mat", sounding.matrix)
    again = cell_of(replayed(made, sounding, tmp_path / "x.mat"))
    for direction, air in cell_of(made).sinr_models.items():
        assert again.sinr_models[direction].mean_sinr_db(0) == pytest.approx(air.mean_sinr_db(0), abs=1e-6)
        assert again.sinr_models[direction].block(0)[0] == pytest.approx(air.block(0)[0], rel=1e-6)


def test_four_taps_keep_the_power_and_nearly_the_spread_of_a_profile():
    for row in PROFILES.values():
        delay_s, power = np.asarray(row.delay_L) * 100e-9, row.power_L
        groups = grouped(delay_s, power)
        assert sorted(tap for one in groups for tap in one) == list(range(delay_s.size))
        assert len(groups) == 4
        share = np.asarray([power[one].sum() for one in groups])
        mean = np.asarray([np.average(delay_s[one], weights=power[one]) for one in groups])
        kept = rms_delay_spread(mean, share) / rms_delay_spread(delay_s, power)
        assert 0.9 < kept <= 1.0


def test_at_the_carrier_the_grouped_taps_fade_as_all_of_them_do(tmp_path):
    made = scenario.load("urban-micro")
    made = replace(made, place=PlaceTable(environment="constant", users=1, speed_m_s=1.0))
    sounding = sounded(made, duration_s=2.0)
    taps.write_npz(tmp_path / "x.npz", sounding.matrix.taps)
    air = cell_of(made).sinr_models["down"]
    again = cell_of(replayed(made, sounding, tmp_path / "x.npz")).sinr_models["down"]
    first = np.concatenate([air.fading.block(number) for number in range(60)], axis=1)[0, :, 6]
    second = np.concatenate([again.fading.block(number) for number in range(60)], axis=1)[0, :, 6]
    match = np.abs(np.vdot(first, second)) / np.linalg.norm(first) / np.linalg.norm(second)
    assert match > 0.999


def test_links_below_the_43_db_range_are_silent_and_reported():
    made = scenario.load("ideal")
    far = PlaceTable(
        environment="log-distance", loss_db=40.0, exponent=4.0, users=2, positions_m=((10, 0), (200, 0))
    )
    sounding = sounded(replace(made, place=far))
    assert sounding.silent_NN[0].tolist() == pytest.approx([np.nan, 0.0, 1.0], nan_ok=True)
    assert sounding.raised_db == pytest.approx(80.0)


def test_all_pairs_of_given_links_are_exported():
    made = scenario.load("colosseum-path-loss")
    power_db = 10 * np.log10(sounded(made).matrix.taps.power_NN + np.eye(6))
    assert power_db - power_db[0, 1] == pytest.approx(5.0 - np.asarray(made.links.loss_db) + 5e-9, abs=6.0)
    assert power_db[2, 5] - power_db[2, 1] == pytest.approx(-15.0)


def test_scenarios_beyond_colosseums_limits_are_refused():
    made = scenario.load("congested-cell")
    with pytest.raises(BadParameter, match=f"nodes must be at most {MAX_NODES}, got 101"):
        sounded(made, step_ms=1000)
    spread = replace(scenario.load("vehicular"), fading=FadingTable(profile="E", delay_spread_s=1e-6))
    with pytest.raises(BadParameter, match=r"at most 5.11 us to be exported, got 20.65 us"):
        sounded(spread, step_ms=1000)
    with pytest.raises(BadParameter, match="step_ms must be a whole number of at least 1, got 0"):
        sounded(made, step_ms=0)


def test_an_export_that_no_memory_holds_is_refused_before_it_is_made():
    with pytest.raises(
        BadParameter, match=r"nodes\^2 x times must be at most 4e\+06, got 51\^2 x 1e\+07: take"
    ):
        sounded(Scenario(place=PlaceTable(users=50)), duration_s=1e4)
