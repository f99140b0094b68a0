"""A delivery tells every try where it was asked to, on every kind of link, and is else the same."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from channel.cell.engine import engine_of
from channel.core.link import Delivery, Link, Transfer
from channel.links.fixed import Direction, FixedLink
from channel.links.loss import Bernoulli, GilbertElliott
from channel.links.recordings import LinkTrace
from channel.links.trace import OpportunityRecording, RateRecording, TraceLink
from channel.scenario.load import CarrierTable, JammerTable, LinkTable, PlaceTable, Scenario

BYTES = 40_000
ASKED = Transfer(client=0, direction="up", sequence=0, payload_bytes=BYTES, start_s=0.5)
RECORDED = LinkTrace(
    time_s=np.asarray([0.0, 0.51]),
    rate_bps=np.asarray([1e7, 2e7]),
    delay_s=np.asarray([0.01, 0.01]),
    loss_rate=np.asarray([0.3, 0.2]),
)
LOSSY_CELL = Scenario(
    place=PlaceTable(users=2, radius_m=60.0),
    carrier=CarrierTable(base_dbm=40.0),
    link=LinkTable(target=0.3, step_db=0.5, max_tries=2, grant_slots=2),
    jammer=JammerTable(kind="pulse", position_m=(30.0, 0.0), power_dbm=10.0, period_s=0.01, duty=0.3),
)
Crossed = Callable[[Transfer], Delivery]


def fixed(**way: object) -> FixedLink:
    return FixedLink(seed=5, up=Direction(delay_s=0.01, **way))  # type: ignore[arg-type]


LINKS: dict[str, Link] = {
    "fixed": fixed(rate_bps=1e7, loss_rate=0.3),
    "no rate": fixed(loss_rate=0.3),
    "given up": replace(fixed(rate_bps=1e7, loss_rate=0.6), max_tries=2),
    "Bernoulli": fixed(rate_bps=1e7, loss=Bernoulli(loss_rate=0.3)),
    "bursts": fixed(rate_bps=1e7, loss=GilbertElliott(leave_good=0.1, leave_bad=0.3)),
    "table": TraceLink(
        seed=5, up=RateRecording(trace=RECORDED), down=OpportunityRecording(time_K=np.asarray([1.0]))
    ),
}


def in_a_cell(transfer: Transfer) -> Delivery:
    engine = engine_of(LOSSY_CELL)
    engine.submit(transfer)
    ((_, delivery),) = engine.advance(5.0)
    return delivery


WAYS: dict[str, Crossed] = {**{name: link.transfer for name, link in LINKS.items()}, "cell": in_a_cell}


@pytest.mark.parametrize("cross", WAYS.values(), ids=WAYS.keys())
def test_telling_changes_nothing_else(cross: Crossed) -> None:
    told, untold = cross(replace(ASKED, is_traced=True)), cross(ASKED)
    assert told.trace
    assert untold.trace == ()
    for one in fields(Delivery):
        if one.name != "trace":
            np.testing.assert_array_equal(getattr(told, one.name), getattr(untold, one.name))


@pytest.mark.parametrize("cross", WAYS.values(), ids=WAYS.keys())
def test_received_bits_of_all_attempts_sum_to_the_arrived_ones(cross: Crossed) -> None:
    delivery = cross(replace(ASKED, is_traced=True))
    received_bits = sum(attempt.received_bits for attempt in delivery.trace)
    sizes_N = np.diff([*range(0, BYTES, 1500), BYTES])
    assert received_bits == 8.0 * sizes_N[delivery.arrived].sum()
    assert sum(attempt.sent_bits for attempt in delivery.trace) > received_bits
    ends = [attempt.end_s for attempt in delivery.trace]
    assert ends == sorted(ends)
    assert ASKED.start_s <= ends[0]
    assert ends[-1] <= delivery.finish_s


@pytest.mark.parametrize("name", ["fixed", "given up", "Bernoulli"])
def test_rounds_take_the_time_that_their_bits_do(name: str) -> None:
    delivery = LINKS[name].transfer(replace(ASKED, is_traced=True))
    airtime_s = sum(attempt.sent_bits for attempt in delivery.trace) / 1e7
    assert airtime_s == pytest.approx(delivery.airtime_s)
    assert delivery.trace[-1].end_s + 0.01 == pytest.approx(delivery.finish_s)
    assert all(attempt.scheme is None and attempt.sinr_db is None for attempt in delivery.trace)


def test_attempts_of_a_cell_have_a_scheme_and_an_sinr_and_are_received_whole_or_not() -> None:
    delivery = in_a_cell(replace(ASKED, is_traced=True))
    failed = [attempt for attempt in delivery.trace if not attempt.received_bits]
    assert len(failed) == delivery.retransmissions > 0
    assert all(attempt.received_bits in (0.0, attempt.sent_bits) for attempt in delivery.trace)
    assert all(attempt.scheme in range(29) for attempt in delivery.trace)
    assert all(attempt.sinr_db is not None and -30.0 < attempt.sinr_db < 60.0 for attempt in delivery.trace)


def test_a_message_of_nothing_has_a_try_of_nothing_or_none() -> None:
    nothing = replace(ASKED, payload_bytes=0, is_traced=True)
    assert in_a_cell(nothing).trace == ()
    for link in LINKS.values():
        assert [attempt.sent_bits for attempt in link.transfer(nothing).trace] == [0.0]
