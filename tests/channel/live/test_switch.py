"""Packets find their way, in time and in order, and are all counted; no device, no clock."""

import pytest

from channel.core.errors import BadParameter
from channel.links.fixed import Direction, FixedLink
from channel.live.decider import LinkDecider
from channel.live.switch import SERVER as SERVER_PORT
from channel.live.switch import DeliveryOrder, Switch, addresses
from tests.channel.live.packets import CLIENTS, NETWORK, SERVER, mark_of, packet

PLENTY = 10**9
WAY = Direction(rate_bps=8e6, delay_s=0.005)


def switch_of(link: FixedLink, queue_bytes: int = PLENTY, **order: float | bool) -> Switch:
    return Switch(LinkDecider(link, 2, queue_bytes), NETWORK, 2, DeliveryOrder(seed=0, **order))  # type: ignore[arg-type]


def test_a_packet_goes_up_and_its_answer_down_when_they_are_due() -> None:
    switch = switch_of(FixedLink(seed=0, up=WAY, down=WAY))
    up, down = packet(CLIENTS[1], SERVER), packet(SERVER, CLIENTS[1])
    switch.take(1, up, 0.0)
    assert list(switch.release(0.0059)) == []
    assert switch.next_s() == pytest.approx(0.006)
    assert list(switch.release(0.0061)) == [(pytest.approx(0.006), SERVER_PORT, up)]
    switch.take(SERVER_PORT, down, 0.01)
    assert list(switch.release(1.0)) == [(pytest.approx(0.016), 1, down)]
    assert switch.next_s() == float("inf")


def test_from_client_to_client_it_is_up_and_down() -> None:
    switch = switch_of(FixedLink(seed=0, up=WAY, down=WAY))
    over = packet(CLIENTS[0], CLIENTS[1])
    switch.take(0, over, 0.0)
    assert list(switch.release(0.006)) == []
    assert list(switch.release(0.012)) == [(pytest.approx(0.012), 1, over)]
    assert switch.counts[0, "up"].forwarded == switch.counts[1, "down"].forwarded == 1


@pytest.mark.parametrize(
    "stray",
    [b"", b"\x60" + bytes(60), packet(SERVER, "10.77.0.9"), packet(SERVER, "10.77.0.255"), b"\x45short"],
    ids=["nothing", "IPv6", "nobody", "everybody", "cut"],
)
def test_a_stray_packet_goes_nowhere_and_is_counted(stray: bytes) -> None:
    switch = switch_of(FixedLink(seed=0))
    switch.take(SERVER_PORT, stray, 0.0)
    assert list(switch.release(1.0)) == []
    assert switch.strays == 1


def test_every_packet_is_dropped_lost_or_forwarded() -> None:
    link = FixedLink(seed=5, up=Direction(rate_bps=8e6, loss_rate=0.2), max_tries=1)
    switch = switch_of(link, queue_bytes=20_000)
    for number in range(500):
        switch.take(0, packet(CLIENTS[0], SERVER, mark=number), number * 0.0005)
        list(switch.release(number * 0.0005))
    count = switch.counts[0, "up"]
    assert count.offered == 500 == count.dropped + count.lost + count.forwarded + count.pending
    list(switch.release(10.0))
    assert count.pending == 0
    assert min(count.dropped, count.lost, count.forwarded) > 30
    assert count.forwarded_bytes == 1000 * count.forwarded
    assert count.loss_rate == count.lost / (count.lost + count.forwarded)
    assert count.busy_s == pytest.approx((count.lost + count.forwarded) * 0.001)
    assert switch.counts[1, "down"].offered == 0


def order_of(link: FixedLink, **order: float | bool) -> list[int]:
    switch = switch_of(link, **order)
    for number in range(200):
        switch.take(0, packet(CLIENTS[0], SERVER, mark=number), number * 0.001)
    return [mark_of(one) for _, _, one in switch.release(10.0)]


def test_retransmissions_delay_other_packets_only_with_in_order_delivery() -> None:
    link = FixedLink(seed=0, up=Direction(rate_bps=80e6, loss_rate=0.1))
    assert order_of(link) == list(range(200))
    out_of_order = order_of(link, in_order=False)
    assert sorted(out_of_order) == list(range(200)) != out_of_order


def test_jitter_reorders_packets_only_where_it_may() -> None:
    link = FixedLink(seed=0, up=Direction(delay_s=0.01))
    assert order_of(link, jitter_s=0.005) == list(range(200))
    reordered = order_of(link, jitter_s=0.005, in_order=False)
    assert sorted(reordered) == list(range(200)) != reordered
    assert reordered == order_of(link, jitter_s=0.005, in_order=False)


def test_jitter_is_evenly_distributed_up_to_its_bound() -> None:
    switch = switch_of(FixedLink(seed=0, up=Direction(delay_s=0.01)), jitter_s=0.004, in_order=False)
    for _ in range(400):
        switch.take(0, packet(CLIENTS[0], SERVER), 1.0)
    late_s = [due_s - 1.01 for due_s, _, _ in switch.release(2.0)]
    assert all(0.0 <= one <= 0.004 for one in late_s)
    mean_s, deviation_s = sum(late_s) / 400, 0.004 / 12**0.5
    assert abs(mean_s - 0.002) < 3 * deviation_s / 400**0.5


def test_more_clients_than_addresses_are_refused() -> None:
    assert len(addresses(NETWORK, 253)) == 254
    with pytest.raises(BadParameter, match=r"clients must be at most 253 in 10\.77\.0\.0/24, got 254"):
        addresses(NETWORK, 254)


def test_jitter_below_nothing_is_refused() -> None:
    with pytest.raises(BadParameter, match="jitter_s must be at least 0"):
        DeliveryOrder(seed=0, jitter_s=-1.0)
