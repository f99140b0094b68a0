"""The cell adds up, never beats the air, and gives the same run to the last bit."""

from dataclasses import replace

import numpy as np
import pytest

from channel.cell.blocks import Blocks
from channel.cell.build_cell import cell_of, parameters_of
from channel.core.errors import BadParameter
from channel.core.rng import stream
from channel.phy.effective_sinr import eesm_db
from channel.phy.receivers import implementation_loss_db
from channel.scenario import load as scenario
from channel.scenario.load import CarrierTable, FadingTable, LinkTable, PlaceTable, Scenario, TrafficTable
from tests.quick import quick

SHORT = Scenario(place=PlaceTable(users=5, speed_m_s=1.0), fading=FadingTable(waves=8))


def run(made, duration_s=0.1):
    return cell_of(made).simulate(duration_s)


@pytest.mark.parametrize("name", quick(scenario.names(), "ideal", "jammed", "colosseum-taps", "urban-micro"))
def test_every_bit_sent_is_delivered_lost_or_still_flying(name):
    for outcome in run(scenario.load(name)).outcomes.values():
        assert np.all(outcome.in_flight_bits >= 0.0)
        assert np.all(outcome.lost_bits >= 0.0)
        total = outcome.delivered_bits + outcome.lost_bits + outcome.in_flight_bits
        assert np.array_equal(total, outcome.sent_bits)
        assert np.array_equal(outcome.delivered_BU.sum(axis=0), outcome.delivered_bits)
        assert np.all(outcome.retransmissions >= 0.0)


@pytest.mark.parametrize("name", quick(scenario.names(), "ideal", "jammed", "colosseum-taps", "urban-micro"))
def test_airtime_is_never_below_bits_over_capacity(name):
    made = scenario.load(name)
    cell = cell_of(made)
    most_bits = float(cell.parameters.bits_IN.max())
    for outcome in cell.simulate(0.1).outcomes.values():
        assert np.all(outcome.airtime_s >= outcome.delivered_bits / most_bits * made.carrier.slot_s - 1e-12)


def test_a_transfer_ends_with_all_its_bytes_decided():
    made = replace(SHORT, traffic=TrafficTable(up_bytes=20_000.0, down_bytes=5_000.0))
    result = run(made, 1.0)
    for direction, payload_bytes in (("up", 20_000.0), ("down", 5_000.0)):
        outcome = result.outcomes[direction]
        assert np.all(outcome.delivered_bits + outcome.lost_bits == 8.0 * payload_bytes)
        assert np.all((outcome.finish_s > 0.0) & (outcome.finish_s < 1.0))


def test_more_users_at_once_finish_later():
    traffic = TrafficTable(up_bytes=50_000.0, down_bytes=0.0)
    ends = []
    for users in (1, 10):
        place = PlaceTable(users=users, positions_m=((50.0, 0.0),) * users, shadowing=False)
        result = run(replace(SHORT, place=place, traffic=traffic), 1.0)
        ends.append(result.outcomes["up"].finish_s.mean())
    assert ends[1] > 2.5 * ends[0]


def test_more_distance_never_gives_more_mean_sinr():
    places = tuple((float(along), 0.0) for along in range(20, 400, 20))
    place = PlaceTable(
        environment="log-distance", loss_db=40.0, exponent=3.0, users=len(places), positions_m=places
    )
    result = run(replace(SHORT, place=place), 0.01)
    for sinr_db in result.mean_sinr_db.values():
        assert np.all(np.diff(sinr_db) <= 0.0)


def test_the_same_seed_gives_the_same_run_and_another_seed_another():
    made = scenario.load("urban-micro")
    first, again, other = (run(one) for one in (made, made, replace(made, seed=1)))
    for direction in ("up", "down"):
        bits = first.outcomes[direction].delivered_BU
        assert np.array_equal(bits, again.outcomes[direction].delivered_BU)
        assert not np.array_equal(bits, other.outcomes[direction].delivered_BU)


@pytest.mark.slow
def test_the_outer_loop_holds_the_share_of_failed_first_tries():
    made = replace(SHORT, link=LinkTable(step_db=0.2), place=PlaceTable(users=2, speed_m_s=3.0))
    outcome = run(made, 2.0).outcomes["up"]
    assert outcome.first_failures.sum() / outcome.firsts.sum() == pytest.approx(0.1, abs=0.02)


def test_transmissions_respect_the_duplex_pattern():
    made = replace(SHORT, link=LinkTable(tdd="DDDDU"), fading=FadingTable(profile="none"))
    outcomes = run(made, 0.5).outcomes
    assert outcomes["down"].airtime_s.sum() <= 0.5 * 0.8 * SHORT.carrier.groups
    slots_up = 0.5 * 0.2
    assert np.all(outcomes["up"].airtime_s <= 2 * slots_up + 1e-9)
    assert outcomes["up"].airtime_s.sum() > 0.0


@pytest.mark.slow
def test_a_grant_of_several_slots_gives_about_the_same_throughput():
    rates = [
        run(replace(SHORT, link=LinkTable(grant_slots=slots)), 0.5).outcomes["down"].throughput_bps.sum()
        for slots in (1, 4)
    ]
    assert rates[1] == pytest.approx(rates[0], rel=0.1)


def test_a_blocks_effective_sinr_is_eesm_over_its_groups():
    owner_F = np.asarray([0, 1, 1, 0, 1])
    beta_T = np.asarray([1.4, 4.0])
    sinr_FT = stream(0, "test-blocks").exponential(size=(5, 2)) * 10.0
    two = np.asarray([2, 3])
    held_FT = owner_F[:, None] == np.arange(2)
    blocks = replace(Blocks.none(5, 4), queue_T=two, groups_T=two, held_FT=held_FT)
    group_H, block_H = blocks.cells()
    found = blocks.effective_db(sinr_FT[group_H, block_H], block_H, beta_T)
    for user in (0, 1):
        level = sinr_FT[owner_F == user, user]
        assert found[user] == pytest.approx(float(eesm_db(10.0 * np.log10(level), beta_T[user])), abs=1e-9)


def test_a_slow_carrier_has_long_slots():
    assert CarrierTable(subcarrier_hz=15e3).slot_s == 1e-3
    assert CarrierTable().slot_s == 0.5e-3


def test_a_run_of_no_time_is_refused():
    with pytest.raises(BadParameter, match="duration_s must be above 0"):
        run(SHORT, 0.0)


def test_traces_that_no_memory_holds_are_refused_before_they_are_made():
    made = replace(SHORT, place=PlaceTable(users=1000))
    with pytest.raises(
        BadParameter, match="duration_s must be at most 200 for the traces of 1000 users, got 50000"
    ):
        run(made, 50_000.0)


FAR = PlaceTable(environment="constant", loss_db=118.0, users=8, shadowing=False)
"""So far that all of a user's power fills one group of the uplink."""


def shared_by(scheduler, made):
    outcomes = run(replace(made, link=replace(made.link, scheduler=scheduler)), 1.0).outcomes
    return {
        way: (one.throughput_bps.sum(), np.log(one.throughput_bps).sum()) for way, one in outcomes.items()
    }


@pytest.mark.parametrize(
    "made",
    [
        replace(SHORT, place=FAR, fading=FadingTable(profile="none")),
        pytest.param(scenario.load("colosseum-path-loss"), marks=pytest.mark.slow),
    ],
)
def test_proportional_fairness_is_fairer_than_taking_turns_and_carries_as_much(made):
    fair, turns = (shared_by(name, made) for name in ("proportional-fair", "round-robin"))
    for way in ("up", "down"):
        assert fair[way][0] > turns[way][0]
        assert fair[way][1] > turns[way][1]


@pytest.mark.parametrize(
    "scheduler", quick(["proportional-fair", "round-robin", "maximum-rate"], "maximum-rate")
)
def test_a_power_limited_user_gets_few_groups(scheduler):
    place = replace(FAR, loss_db=134.0, users=1)
    made = replace(
        SHORT, place=place, fading=FadingTable(profile="none"), link=LinkTable(scheduler=scheduler)
    )
    outcome = run(made, 1.0).outcomes["up"]
    # About -3.6 dB in a group, which the slowest scheme survives, and -14.7 dB spread over 13.
    assert outcome.throughput_bps[0] > 200e3
    assert outcome.loss_rate[0] < 0.02


@pytest.mark.bench
def test_time_grows_no_faster_than_users():
    from time import perf_counter

    spent = {}
    for users in (100, 1000):
        cell = cell_of(replace(SHORT, place=PlaceTable(users=users), link=LinkTable(grant_slots=8)))
        cell.simulate(0.032)
        start = perf_counter()
        result = cell.simulate(0.2)
        spent[users] = perf_counter() - start
        blocks = sum(outcome.tries.sum() for outcome in result.outcomes.values())
        print(f"{users} users: {blocks / spent[users]:.0f} blocks/s, {spent[users] / 0.2:.2f} s a second")
    assert spent[1000] < 12.0 * spent[100]


def test_a_measured_receiver_needs_more_sinr_than_the_ideal_one():
    made = scenario.load("urban-micro")
    link = replace(made.link, receiver="splitfl-ofdm", implementation_loss_db=0.5)
    law = parameters_of(replace(made, link=link)).law
    assert law.implementation_loss_db == pytest.approx(0.5 + implementation_loss_db("splitfl-ofdm"))
    assert parameters_of(made).law.implementation_loss_db == 0.0
    with pytest.raises(BadParameter, match=r"link\.receiver must be one of ideal, splitfl-ofdm, got 'real'"):
        replace(made.link, receiver="real")
