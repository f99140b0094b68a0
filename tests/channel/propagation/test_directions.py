"""SINRs of both directions, whose memory is used again."""

from dataclasses import replace

import numpy as np
import pytest

from channel.cell.build_cell import cell_of
from channel.propagation.directions import BothDirections
from channel.propagation.fading_grid import SLOTS
from channel.scenario import load as scenario


def both(name: str) -> BothDirections:
    made = scenario.load(name)
    cell = cell_of(replace(made, place=replace(made.place, users=min(2, made.place.users))))
    return BothDirections(sinr_models=cell.sinr_models, seed=made.seed)


@pytest.mark.parametrize("name", ["urban-micro", "colosseum-taps", "ideal"])
def test_a_slot_block_that_was_overwritten_is_computed_again(name: str) -> None:
    asked = both(name)
    for number in (0, 5, 1, 2, 3, 0, 9):
        alone = both(name).slot_block(number)
        found = asked.slot_block(number)
        assert np.array_equal(found.sinr_SDFU, alone.sinr_SDFU)
        assert np.array_equal(found.group_w_Q, alone.group_w_Q)


def test_reports_may_come_from_more_slot_blocks_than_are_kept() -> None:
    slots = list(range(SLOTS // 2, 6 * SLOTS, SLOTS // 4))
    each = [both("urban-micro").reports([slot])[0] for slot in slots]
    assert np.array_equal(both("urban-micro").reports(slots), each)
