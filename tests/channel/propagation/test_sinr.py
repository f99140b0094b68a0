"""Where users are taken to be, and what both directions share."""

from dataclasses import replace

import numpy as np
import pytest

from channel.cell.build_cell import cell_of
from channel.propagation.fading_grid import SLOTS
from channel.scenario import load as scenario
from channel.scenario.load import (
    CarrierTable,
    FadingTable,
    JammerTable,
    LinkTable,
    NeighboursTable,
    PlaceTable,
    Scenario,
)

MADE = Scenario(place=PlaceTable(users=3), fading=FadingTable(waves=8))


def sinr_models(speed_m_s, **tables):
    made = replace(MADE, place=replace(MADE.place, speed_m_s=speed_m_s), **tables)
    return cell_of(made).sinr_models


@pytest.mark.parametrize("speed_m_s", [0.83, 3.0, 30.0])
def test_places_are_followed_in_steps_of_a_quarter_of_a_metre_or_a_block(speed_m_s):
    air = sinr_models(speed_m_s)["up"]
    block_m = speed_m_s * SLOTS * air.slot_s
    for number in (0, 1, 7, 100):
        true_U2 = air.mobility.at(np.asarray([number * SLOTS * air.slot_s]))[0]
        apart_m = np.hypot(*(air.place_U2(number) - true_U2).T)
        assert np.all(apart_m <= max(0.25 - block_m, 0.0) + 1e-9)
    assert not np.array_equal(air.place_U2(0), air.place_U2(100))


def test_the_sinr_of_a_static_user_is_constant():
    air = sinr_models(0.0)["down"]
    assert np.array_equal(air.block(0)[0], air.block(10**9)[0])


def test_one_carrier_has_one_channel_and_two_have_two():
    for tdd, are_alike in (("DU", True), ("", False)):
        both = sinr_models(1.0, link=LinkTable(tdd=tdd))
        up, down = (both[way].fading.power(3) for way in ("up", "down"))
        assert np.array_equal(up, down) == are_alike


def mean_sinr_db(way, antenna_gain_db, **tables):
    carrier = CarrierTable(antenna_gain_db=antenna_gain_db, uplink_target_snr_db=100.0)
    made = Scenario(place=HERE, carrier=carrier, fading=FadingTable(profile="none"), **tables)
    return float(cell_of(made).sinr_models[way].mean_sinr_db(0)[0])


HERE = PlaceTable(
    environment="log-distance",
    loss_db=20.0,
    exponent=3.0,
    users=1,
    positions_m=((50.0, 0.0),),
    shadowing=False,
)
LOUD = JammerTable(kind="pulse", position_m=(100.0, 0.0), power_dbm=60.0, duty=1.0)
NEAR = NeighboursTable(rings=1, spacing_m=200.0, load=1.0, handover=False)


@pytest.mark.parametrize(
    ("way", "tables", "rise_db"),
    [
        # A jammer has no base station's antenna, and a user none either: the signal alone is raised.
        ("down", {"jammer": LOUD}, 8.0),
        # The base station's antenna hears a jammer as it hears its users.
        ("up", {"jammer": LOUD}, 0.0),
        # Neighbours are base stations with the same antenna.
        ("down", {"neighbours": NEAR}, 0.0),
        # A rise is given over thermal noise, after the antenna.
        ("up", {"neighbours": NeighboursTable(uplink_rise_db=40.0)}, 8.0),
        ("down", {}, 8.0),
    ],
)
def test_antenna_gain_applies_to_signal_and_interference_at_the_same_antenna(way, tables, rise_db):
    rise = mean_sinr_db(way, 8.0, **tables) - mean_sinr_db(way, 0.0, **tables)
    assert rise == pytest.approx(rise_db, abs=1e-3)


def test_a_jammed_users_sinr_is_that_of_a_link_budget():
    # 30 dBm + 8 dB - (20 + 30 log10 50) dB, against 60 dBm - (20 + 30 log10 50) dB from 50 m away.
    assert mean_sinr_db("down", 8.0, jammer=LOUD) == pytest.approx(30.0 + 8.0 - 60.0, abs=1e-3)


@pytest.mark.parametrize("name", scenario.names())
@pytest.mark.parametrize("way", ["up", "down"])
def test_no_sinr_is_ever_above_its_bound(name, way):
    made = scenario.load(name)
    air = cell_of(replace(made, place=replace(made.place, speed_m_s=0.0))).sinr_models[way]
    most_U = air.max_sinr()
    for number in range(4):
        assert np.all(air.block(number)[0] <= most_U * (1.0 + 1e-9))
    # And it is no idle one: steady air reaches it, and fading by no more than what is never drawn.
    assert np.all(most_U <= 60.0 * air.block(0)[0].mean(axis=(0, 1)) * 20.0)


def test_the_sinr_bound_includes_constant_interference_only():
    steady = mean_sinr_db("down", 0.0, jammer=LOUD, neighbours=NEAR)
    made = Scenario(place=HERE, fading=FadingTable(profile="none"), jammer=LOUD, neighbours=NEAR)
    assert 10.0 * np.log10(cell_of(made).sinr_models["down"].max_sinr()[0]) == pytest.approx(steady)
    pulsed = replace(made, jammer=replace(LOUD, duty=0.5))
    quiet = mean_sinr_db("down", 0.0, neighbours=NEAR)
    assert 10.0 * np.log10(cell_of(pulsed).sinr_models["down"].max_sinr()[0]) == pytest.approx(quiet)


def test_moving_users_with_varying_path_loss_have_no_sinr_bound():
    assert np.all(np.isinf(sinr_models(1.0)["down"].max_sinr()))
    assert np.all(np.isfinite(sinr_models(0.0)["down"].max_sinr()))
