"""Packets are messages to the cell, and their outcomes are its deliveries, however often it is asked."""

import math
from dataclasses import replace

import pytest

from channel.cell.engine import engine_of
from channel.core.errors import BadParameter
from channel.core.link import Transfer
from channel.live.cell_decider import STEP_S, CellDecider
from channel.live.decider import PacketOutcome
from channel.scenario import load as scenario
from channel.scenario.load import Scenario

PLENTY = 10**7


def cell(users: int = 2) -> Scenario:
    loaded = scenario.load("jammed")
    return replace(loaded, seed=3, place=replace(loaded.place, users=users, positions_m=()))


def fates_of(step_s: float) -> list[PacketOutcome]:
    """200 packets of two clients, a millisecond apart, asked about every so often."""
    decider = CellDecider(engine_of(cell(), recovery="unacknowledged"), 2, PLENTY)
    outcomes, asked_s = [], 0.0
    for number in range(200):
        while asked_s + step_s <= number * 1e-3:
            asked_s += step_s
            outcomes += decider.decided(asked_s)
        assert decider.offer(number % 2, "up", 1200, number * 1e-3) == number // 2
    return outcomes + decider.decided(2.0)


@pytest.mark.slow
def test_a_packets_fate_is_its_message_in_the_engine() -> None:
    engine = engine_of(cell(), recovery="unacknowledged")
    for number in range(200):
        engine.submit(
            Transfer(
                client=number % 2,
                direction="up",
                sequence=number // 2,
                payload_bytes=1200,
                start_s=number * 1e-3,
            )
        )
    wanted = {
        (transfer.client, transfer.sequence): (delivery.finish_s, delivery.is_complete)
        for transfer, delivery in engine.advance(2.0)
    }
    for step_s in (1e-3, 7e-3, 0.1):
        outcomes = fates_of(step_s)
        assert {
            (outcome.client, outcome.number): (outcome.due_s, outcome.arrived) for outcome in outcomes
        } == wanted
    assert len(wanted) == 200


def test_a_queue_accepts_packets_again_after_a_delivery() -> None:
    decider = CellDecider(engine_of(cell()), 2, 2500)
    assert [decider.offer(0, "down", 1000, 0.0) for _ in range(3)] == [0, 1, None]
    assert decider.offer(1, "down", 1000, 0.0) == 0
    assert len(decider.decided(1.0)) == 3
    assert decider.offer(0, "down", 1000, 1.0) == 2


def test_polling_is_requested_only_with_packets_in_flight() -> None:
    decider = CellDecider(engine_of(cell()), 1, PLENTY)
    assert decider.next_s() == math.inf
    decider.offer(0, "up", 1000, 0.0)
    assert decider.next_s() == pytest.approx(STEP_S)
    decider.decided(1.0)
    assert decider.next_s() == math.inf


def test_more_clients_than_users_are_refused() -> None:
    with pytest.raises(BadParameter, match="clients must be at most the cell's 2 users, got 3"):
        CellDecider(engine_of(cell()), 3, PLENTY)
