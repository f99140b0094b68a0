import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.propagation.fading_grid import SLOTS, SlotGrid
from channel.propagation.tdl import TappedDelayLine

FREQUENCIES_HZ = np.arange(13) * 720e3


def link(number, profile, doppler_hz=35.0):
    rng = stream(0, "slots", number)
    return TappedDelayLine.draw(
        rng, profile=profile, delay_spread_s=1e-7, doppler_hz=doppler_hz, num_waves=16
    )


def grid(lines):
    return SlotGrid(line=lines, slot_s=5e-4, frequency_hz_F=FREQUENCIES_HZ)


@pytest.mark.parametrize("profile", ["A", "D"])
@pytest.mark.parametrize("number", [0, 1, 5000])
@pytest.mark.parametrize("doppler_hz", [0.0, 1.0, 9.9, 35.0, 150.0, 400.0])
def test_a_block_is_the_response_at_its_slots(profile, number, doppler_hz):
    lines = TappedDelayLine.stack([link(0, profile, doppler_hz), link(1, profile, doppler_hz)])
    times_s = (number * SLOTS + np.arange(SLOTS)) * 5e-4
    found = grid(lines).block(number)
    assert found.shape == (2, SLOTS, 13)
    assert np.abs(found - lines.response(times_s, FREQUENCIES_HZ)).max() < 1e-9
    power = np.moveaxis(grid(lines).power(number), -1, 0)
    assert power == pytest.approx(np.abs(found) ** 2, abs=1e-12)


def test_the_order_changes_no_bit_and_company_none_that_counts():
    together = grid(TappedDelayLine.stack([link(number, "D") for number in range(5)]))
    blocks = {number: together.block(number) for number in (3, 0, 7)}
    for number in (0, 3, 7):
        assert np.array_equal(together.block(number), blocks[number])
        alone = grid(TappedDelayLine.stack([link(2, "D")])).block(number)[0]
        assert alone == pytest.approx(blocks[number][2], abs=1e-12)


def test_a_slot_that_takes_no_time_is_refused():
    with pytest.raises(BadParameter, match=r"slot_s must be above 0, got 0\.0"):
        SlotGrid(line=link(0, "A"), slot_s=0.0, frequency_hz_F=FREQUENCIES_HZ)
