"""Where users are taken to be, and what both directions share."""

from dataclasses import replace

import numpy as np
import pytest

from channel.building import cell_of
from channel.scenario import FadingTable, LinkTable, PlaceTable, Scenario
from channel.slots import SLOTS

MADE = Scenario(place=PlaceTable(users=3), fading=FadingTable(waves=8))


def airs(speed_m_s, **tables):
    made = replace(MADE, place=replace(MADE.place, speed_m_s=speed_m_s), **tables)
    return cell_of(made).airs


@pytest.mark.parametrize("speed_m_s", [0.83, 3.0, 30.0])
def test_places_are_followed_in_steps_of_a_quarter_of_a_metre_or_a_block(speed_m_s):
    air = airs(speed_m_s)["up"]
    block_m = speed_m_s * SLOTS * air.slot_s
    for number in (0, 1, 7, 100):
        true_U2 = air.mobility.at(np.asarray([number * SLOTS * air.slot_s]))[0]
        apart_m = np.hypot(*(air.place_U2(number) - true_U2).T)
        assert np.all(apart_m <= max(0.25 - block_m, 0.0) + 1e-9)
    assert not np.array_equal(air.place_U2(0), air.place_U2(100))


def test_who_stands_still_hears_the_same_for_ever():
    air = airs(0.0)["down"]
    assert np.array_equal(air.block(0)[0], air.block(10**9)[0])


def test_one_carrier_has_one_channel_and_two_have_two():
    for tdd, are_alike in (("DU", True), ("", False)):
        both = airs(1.0, link=LinkTable(tdd=tdd))
        up, down = (both[way].fading.power(3) for way in ("up", "down"))
        assert np.array_equal(up, down) == are_alike
