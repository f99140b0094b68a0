"""A fixed seed gives the same trace, whatever the order in which links are asked, and who else is there."""

import random
from dataclasses import replace

import numpy as np
import pytest

from channel.cell.build_cell import cell_of
from channel.core.link import DIRECTIONS
from channel.scenario import load as scenario


def small(name, users=3):
    made = scenario.load(name)
    return replace(made, place=replace(made.place, users=min(users, made.place.users)))


@pytest.mark.parametrize("name", scenario.names())
def test_the_order_of_asking_changes_no_sinr(name):
    asked = [(direction, number) for direction in DIRECTIONS for number in (0, 1, 7, 40)]
    sinr_models = cell_of(small(name)).sinr_models
    answers = {one: sinr_models[one[0]].block(one[1])[0] for one in asked}
    random.Random(0).shuffle(asked)
    afresh = cell_of(small(name)).sinr_models
    assert all(np.array_equal(afresh[one[0]].block(one[1])[0], answers[one]) for one in asked)


@pytest.mark.parametrize("name", scenario.names())
def test_a_users_sinr_does_not_depend_on_other_users(name):
    few, many = (cell_of(small(name, users)).sinr_models for users in (2, 3))
    for direction in DIRECTIONS:
        alone, among = few[direction].block(3)[0], many[direction].block(3)[0]
        assert among[..., :2] == pytest.approx(alone, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "sinr_db"),
    [
        ("urban-micro", (1.63944268, 20.15537554, 12.95548195)),
        ("vehicular", (27.39458118, 28.63816925, 38.11053420)),
        ("colosseum-taps", (5.89705106, 23.11328684, 14.64209098)),
    ],
)
def test_a_seed_gives_these_numbers_on_every_machine(name, sinr_db):
    found = cell_of(small(name)).sinr_models["down"].block(5)[0][10, 3]
    assert 10 * np.log10(found) == pytest.approx(np.asarray(sinr_db), abs=1e-6)
