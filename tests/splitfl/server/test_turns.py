"""One order for everybody: each client once a lap, in an order of its own each lap, drawn from the seed."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from splitfl.server.service_order import Turns

LAPS = st.lists(st.integers(1, 12), min_size=1, max_size=6)


def begun(laps: list[int], seed: int = 0, round_index: int = 0, base: int = 0) -> Turns:
    turns = Turns(seed, round_index, len(laps), base)
    for client, count in enumerate(laps):
        turns.begin(client, count)
    return turns


@given(LAPS, st.integers(0, 5), st.integers(0, 1000))
def test_every_message_of_a_round_has_one_position(laps: list[int], seed: int, base: int) -> None:
    turns = begun(laps, seed=seed, base=base)
    positions = [turns.position(client, lap) for client, count in enumerate(laps) for lap in range(count)]
    assert sorted(p for p in positions if p is not None) == list(range(base, base + sum(laps)))
    assert turns.end == base + sum(laps)


@given(LAPS)
def test_a_lap_is_over_before_the_next_begins(laps: list[int]) -> None:
    order = begun(laps).order()
    assert [lap for _, lap in order] == sorted(lap for _, lap in order)
    assert Counter(client for client, _ in order) == Counter(
        {client: count - 1 for client, count in enumerate(laps) if count > 1}
    )


def test_clients_begin_in_their_own_order() -> None:
    turns = begun([3, 3, 3], base=10)
    assert [turns.position(client, 0) for client in range(3)] == [10, 11, 12]


def test_orders_differ_from_lap_to_lap_and_round_to_round() -> None:
    laps = [[client for client, at in begun([21] * 6).order() if at == lap] for lap in range(1, 21)]
    assert len({tuple(lap) for lap in laps}) > 15
    assert begun([5] * 6).order() != begun([5] * 6, round_index=1).order()
    assert begun([5] * 6).order() != begun([5] * 6, seed=1).order()


def test_the_order_does_not_depend_on_arrival() -> None:
    turns = Turns(0, 0, 3, 0)
    for client in (2, 0, 1):
        turns.begin(client, 4)
    assert turns.order() == begun([4, 4, 4]).order()


def test_each_client_is_first_equally_often() -> None:
    firsts = Counter(begun([2] * 4, round_index=round_index).order()[0][0] for round_index in range(2000))
    assert all(400 < firsts[client] < 600 for client in range(4))  # five standard deviations


def test_positions_are_unknown_until_all_have_begun() -> None:
    turns = Turns(0, 0, 2, 0)
    turns.begin(0, 3)
    assert turns.position(0, 1) is None
    assert turns.end is None
    assert turns.position(1, 0) == 1


@given(LAPS, st.integers(1, 4), st.integers(0, 100))
def test_groups_are_consecutive_messages_of_one_lap(laps: list[int], batch: int, base: int) -> None:
    turns = Turns(0, 0, len(laps), base, batch)
    for client, count in enumerate(laps):
        turns.begin(client, count)
    groups = [turns.group(position) for position in range(base, base + sum(laps))]
    assert all(position in group for position, group in enumerate(groups, base))
    lap_of = dict(enumerate([0] * len(laps) + [lap for _, lap in turns.order()], base))
    for group in groups:
        assert all(turns.group(position) == group for position in group)
        assert {lap_of[position] for position in group} == {lap_of[group[0]]}
        is_last_of_lap = lap_of.get(group[-1] + 1) != lap_of[group[0]]
        assert len(group) == (1 if lap_of[group[0]] == 0 else batch) or (
            is_last_of_lap and len(group) < batch
        )
