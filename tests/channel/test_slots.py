import numpy as np
import pytest

from channel.errors import BadParameter
from channel.rng import stream
from channel.slots import SLOTS, SlotGrid
from channel.tdl import TappedDelayLine

FREQUENCIES_HZ = np.arange(13) * 720e3


def link(number, profile):
    rng = stream(0, "slots", number)
    return TappedDelayLine.draw(rng, profile=profile, delay_spread_s=1e-7, doppler_hz=35.0, num_waves=16)


def grid(lines):
    return SlotGrid(line=lines, slot_s=5e-4, frequency_hz_F=FREQUENCIES_HZ)


@pytest.mark.parametrize("profile", ["A", "D"])
@pytest.mark.parametrize("number", [0, 1, 5000])
def test_a_block_is_the_response_at_its_slots(profile, number):
    lines = TappedDelayLine.stack([link(0, profile), link(1, profile)])
    times_s = (number * SLOTS + np.arange(SLOTS)) * 5e-4
    found = grid(lines).block(number)
    assert found.shape == (2, SLOTS, 13)
    assert np.abs(found - lines.response(times_s, FREQUENCIES_HZ)).max() < 1e-10


def test_neither_the_order_nor_the_company_changes_a_bit():
    together = grid(TappedDelayLine.stack([link(number, "D") for number in range(5)]))
    blocks = {number: together.block(number) for number in (3, 0, 7)}
    for number in (0, 3, 7):
        assert np.array_equal(together.block(number), blocks[number])
        assert np.array_equal(grid(link(2, "D")).block(number), blocks[number][2])


def test_a_slot_that_takes_no_time_is_refused():
    with pytest.raises(BadParameter, match=r"slot_s must be above 0, got 0\.0"):
        SlotGrid(line=link(0, "A"), slot_s=0.0, frequency_hz_F=FREQUENCIES_HZ)
