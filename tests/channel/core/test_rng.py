import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from channel.core.rng import stream

NAME = st.one_of(st.integers(), st.text())


@given(st.integers(), st.lists(NAME), st.lists(NAME))
def test_only_the_same_name_gives_the_same_draws(seed, one, other):
    draws = stream(seed, *one).random(4)
    assert np.array_equal(draws, stream(seed, *one).random(4))
    if [(type(name), name) for name in one] != [(type(name), name) for name in other]:
        assert not np.array_equal(draws, stream(seed, *other).random(4))


def test_similar_stream_names_share_no_draws():
    names = [("a", 1), ("a", "1"), ("a1",), ("a", 11), ("a1", 1), ("a", 1, ""), (1, "a"), ()]
    first = [stream(0, *name).random() for name in names] + [stream(1).random()]
    assert all(one != other for one, other in itertools.combinations(first, 2))


def test_the_draws_are_the_same_on_every_machine():
    expected = [0.9363993592765952, 0.892068248221973, 0.7131259957040815]
    assert stream(0, "link", "up", 1, 2).random(3).tolist() == expected
