"""Messages cross a running cell: whole, in order of their queue, and alike however the time is cut."""

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.cell.build_cell import cell_of
from channel.cell.engine import RECOVERIES, Engine, engine_of
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS, Transfer
from channel.core.rng import stream
from channel.scenario.link_tables import LinksTable
from channel.scenario.load import (
    CarrierTable,
    FadingTable,
    JammerTable,
    LinkTable,
    PlaceTable,
    Scenario,
    TrafficTable,
)
from tests.quick import quick

USERS = 4
SHORT = Scenario(
    place=PlaceTable(users=USERS, radius_m=60.0, speed_m_s=1.0),
    carrier=CarrierTable(base_dbm=40.0),
    fading=FadingTable(waves=8),
)
LOSSY = replace(
    SHORT,
    link=LinkTable(harq="none", max_tries=1, target=0.3, step_db=0.5),
    jammer=JammerTable(kind="pulse", position_m=(30.0, 0.0), power_dbm=10.0, period_s=0.01, duty=0.3),
)

KINDS = {
    "good": SHORT,
    "lossy": LOSSY,
    "tdd": replace(LOSSY, link=LinkTable(tdd="DDDDU", max_tries=2, round_trip_s=0.001)),
    "long grants": replace(LOSSY, link=LinkTable(grant_slots=3, harq="incremental", round_trip_s=0.0)),
    "arq": replace(LOSSY, link=LinkTable(harq="arq", scheduler="round-robin", max_tries=3)),
}


def message(client=0, direction="up", sequence=0, payload_bytes=10_000, start_s=0.0):
    return Transfer(
        client=client, direction=direction, sequence=sequence, payload_bytes=payload_bytes, start_s=start_s
    )


def some_messages(seed, count=30, span_s=0.3, most_bytes=20_000):
    rng = stream(seed, "messages")
    starts = np.sort(rng.random(count) * span_s)
    return [
        message(
            int(rng.integers(USERS)),
            DIRECTIONS[int(rng.integers(2))],
            sequence,
            int(rng.integers(most_bytes)),
            float(start_s),
        )
        for sequence, start_s in enumerate(starts)
    ]


def row(transfer, delivery):
    return (
        transfer.sequence,
        delivery.finish_s,
        delivery.retransmissions,
        delivery.airtime_s,
        delivery.energy_j,
        tuple(delivery.arrived.tolist()),
    )


def crossed(engine, transfers, until_s=5.0):
    for transfer in transfers:
        engine.submit(transfer)
    return [row(*one) for one in engine.advance(until_s)]


@pytest.mark.parametrize("recovery", RECOVERIES)
@pytest.mark.parametrize("made", quick(KINDS.values(), KINDS["lossy"], KINDS["arq"]), ids=KINDS.keys())
def test_a_thousand_short_steps_equal_one_long_step(made, recovery):
    transfers = some_messages(0)
    at_once = crossed(engine_of(made, recovery=recovery), transfers, 2.0)
    engine, found = engine_of(made, recovery=recovery), []
    waiting = list(transfers)
    for until_s in np.linspace(0.0, 2.0, 1000):
        while waiting and waiting[0].start_s <= until_s + 0.01:
            engine.submit(waiting.pop(0))
        found += [row(*one) for one in engine.advance(float(until_s))]
    assert len(at_once) == len(transfers)
    assert found == at_once


@settings(max_examples=15)
@given(
    sizes=st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(DIRECTIONS), st.integers(0, 6000)), max_size=12
    ),
    recovery=st.sampled_from(RECOVERIES),
    until_s=st.floats(0.0, 0.1),
)
def test_every_byte_submitted_is_delivered_lost_or_still_there(sizes, recovery, until_s):
    engine = engine_of(LOSSY, recovery=recovery)
    for number, (client, direction, size) in enumerate(sizes):
        engine.submit(message(client, direction, number, size))
    early, late = engine.advance(until_s), engine.advance(20.0)
    assert engine.is_idle
    found = early + late
    assert sorted(transfer.sequence for transfer, _ in found) == list(range(len(sizes)))
    assert all(delivery.finish_s <= until_s for _, delivery in early)
    for transfer, delivery in found:
        assert delivery.packets == -(-transfer.payload_bytes // 1500)
        assert recovery == "unacknowledged" or delivery.is_complete


def test_airtime_is_never_below_bits_over_capacity():
    cell = cell_of(SHORT)
    most_bps = float(cell.parameters.bits_IN.max()) / cell.parameters.slot_s
    engine = Engine(cell)
    for one in some_messages(1):
        engine.submit(one)
    for transfer, delivery in engine.advance(5.0):
        assert delivery.airtime_s >= 8 * transfer.payload_bytes / most_bps - 1e-12
        assert delivery.finish_s >= transfer.start_s + delivery.airtime_s / 13 - 1e-12
        assert (delivery.energy_j > 0.0) == (transfer.payload_bytes > 0)


def test_ten_uploads_at_once_slow_each_other_down():
    ends = []
    for users in (1, 10):
        place = PlaceTable(users=users, positions_m=((50.0, 0.0),) * users, shadowing=False)
        engine = engine_of(replace(SHORT, place=place))
        for client in range(users):
            engine.submit(message(client, payload_bytes=50_000))
        ends.append(np.mean([delivery.finish_s for _, delivery in engine.advance(5.0)]))
    assert ends[1] > 2.5 * ends[0]


def test_lost_packets_are_those_that_lost_blocks_touched():
    engine = engine_of(LOSSY, recovery="unacknowledged", mtu_bytes=500)
    for one in some_messages(2):
        engine.submit(one)
    rates = [delivery.loss_rate for _, delivery in engine.advance(5.0)]
    assert 0.02 < np.mean(rates) < 0.9
    assert all(delivery.retransmissions == 0 for _, delivery in engine.advance(6.0))


def test_recovery_turns_loss_into_delay():
    ends = {}
    for recovery in RECOVERIES:
        found = crossed(engine_of(LOSSY, recovery=recovery), some_messages(2))
        ends[recovery] = {sequence: (finish_s, again) for sequence, finish_s, again, *_ in found}
    assert sum(again for _, again in ends["acknowledged"].values()) > 0
    late, soon = ([end[0] for end in ends[recovery].values()] for recovery in RECOVERIES)
    assert np.mean(late) > np.mean(soon)


def test_a_queue_is_first_in_first_out():
    engine = engine_of(SHORT)
    for sequence in range(20):
        engine.submit(message(sequence=sequence, payload_bytes=200))
    finish = {transfer.sequence: delivery.finish_s for transfer, delivery in engine.advance(1.0)}
    blocks = sum(
        1 for earlier, later in zip(range(19), range(1, 20), strict=True) if finish[later] < finish[earlier]
    )
    assert blocks <= 1  # only where the earlier one's block had to be sent again


def test_a_message_can_answer_the_first_that_completes():
    engine, finishes = engine_of(SHORT), []
    for client in range(USERS):
        engine.submit(message(client, payload_bytes=3000))
    while not engine.is_idle:
        for transfer, delivery in engine.advance(1.0, to_first=True):
            finishes.append(delivery.finish_s)
            if transfer.direction == "up":
                engine.submit(message(transfer.client, "down", 0, 3000, delivery.finish_s))
    assert len(finishes) == 2 * USERS
    assert finishes == sorted(finishes)


def test_years_of_silence_cost_nothing():
    engine = engine_of(replace(SHORT, place=replace(SHORT.place, speed_m_s=0.0)))
    engine.submit(message(payload_bytes=5000))
    early = engine.advance(1e8)
    engine.submit(message(sequence=1, payload_bytes=5000, start_s=1e8))
    ((_, late),) = engine.advance(1e8 + 1.0)
    assert 1e8 < late.finish_s < 1e8 + 0.1
    assert len(early) == 1


def test_the_uplink_has_to_ask_first():
    engine = engine_of(SHORT)
    for direction in DIRECTIONS:
        engine.submit(message(direction=direction, payload_bytes=100))
    finish = {transfer.direction: delivery.finish_s for transfer, delivery in engine.advance(1.0)}
    assert finish["up"] >= SHORT.link.grant_delay_s
    assert finish["down"] < SHORT.link.grant_delay_s


def test_a_message_of_nothing_arrives_at_once():
    engine = engine_of(SHORT)
    engine.submit(message(payload_bytes=0, start_s=0.25))
    assert engine.advance(0.2) == []
    ((_, delivery),) = engine.advance(0.3)
    assert (delivery.finish_s, delivery.packets, delivery.airtime_s) == (0.25, 0, 0.0)


def test_an_engine_transmits_like_a_cell():
    made = replace(SHORT, traffic=TrafficTable(up_bytes=20_000.0, down_bytes=5_000.0))
    outcomes = cell_of(made).simulate(2.0).outcomes
    engine = engine_of(made, recovery="unacknowledged")
    for direction, size in (("up", 20_000), ("down", 5_000)):
        for client in range(USERS):
            engine.submit(message(client, direction, payload_bytes=size))
    for transfer, delivery in engine.advance(2.0):
        outcome = outcomes[transfer.direction]
        assert delivery.finish_s == pytest.approx(outcome.finish_s[transfer.client], abs=1e-12)
        assert delivery.airtime_s == pytest.approx(outcome.airtime_s[transfer.client])


def test_bad_input_is_refused():
    engine = engine_of(SHORT)
    with pytest.raises(BadParameter, match=r"client must lie in \[0, 3\], got 4"):
        engine.submit(message(client=4))
    engine.submit(message(start_s=0.5))
    with pytest.raises(BadParameter, match=r"start_s must be at least 0\.5, .* got 0\.1"):
        engine.submit(message(sequence=1, start_s=0.1))
    engine.advance(0.25)
    with pytest.raises(BadParameter, match=r"start_s must be at least 0\.25, .* got 0\.2"):
        engine.submit(message(client=1, start_s=0.2))
    with pytest.raises(BadParameter, match="until_s must be a finite number, got inf"):
        engine.advance(float("inf"))
    with pytest.raises(
        BadParameter, match="recovery must be one of acknowledged, unacknowledged, got 'best'"
    ):
        engine_of(SHORT, recovery="best")
    with pytest.raises(BadParameter, match="mtu_bytes must be a whole number of at least 1"):
        engine_of(SHORT, mtu_bytes=0)


OUT = (
    "user 0 is out of coverage, direction up: its SINR is never above -19.6 dB, "
    "and the slowest scheme of 64qam"
)


def reached(loss_db, profile="none", users=2, **place):
    table = PlaceTable(environment="constant", loss_db=loss_db, users=users, shadowing=False, **place)
    return replace(SHORT, place=table, fading=FadingTable(profile=profile))


def test_a_cell_with_all_users_out_of_coverage_is_refused_with_the_needed_sinr():
    with pytest.raises(BadParameter, match=re.escape(OUT)):
        engine_of(reached(150.0))
    with pytest.raises(BadParameter, match=r"user 0 is out of coverage, direction up: .* needs -5\.\d dB"):
        engine_of(reached(170.0, "C", speed_m_s=30.0))
    assert engine_of(reached(120.0)).is_idle


def test_a_user_out_of_coverage_is_named_and_costs_no_time():
    links = LinksTable(loss_db=((0, 10, 60), (10, 0, 10), (60, 10, 0)))
    place = PlaceTable(environment="links", loss_db=90.0, users=2, shadowing=False)
    made = replace(SHORT, place=place, links=links, fading=FadingTable(profile="none"))
    engine = engine_of(made)
    engine.require_coverage([0])
    with pytest.raises(BadParameter, match="user 1 is out of coverage, direction up"):
        engine.require_coverage([0, 1])
    for client in (0, 1):
        engine.submit(Transfer(client=client, direction="up", sequence=0, payload_bytes=1000, start_s=0.0))
    # A day takes no time, for nothing can happen once the first user's message is through.
    done = engine.advance(86_400.0)
    assert [transfer.client for transfer, _ in done] == [0]
    assert not engine.is_idle
