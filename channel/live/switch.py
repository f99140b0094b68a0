"""Routes and schedules live packets, uplink to the server and downlink to a client, without doing any I/O.

A packet between two clients takes the uplink, then the downlink, as through a base station. Addresses are
those of one network: the server is the first host, client 0 the second, and so on.
"""

import heapq
import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass

from channel.core.arrays import at_least
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS
from channel.core.rng import stream
from channel.live.decider import Decider, PacketOutcome

SERVER = -1
"""The port of the server; the port of a client is its index."""


@dataclass(frozen=True, kw_only=True)
class DeliveryOrder:
    """Jitter and reordering after the link: an extra delay, uniform in [0, jitter_s), per packet.

    `in_order` delays packets that overtook others, as PDCP does (3GPP TS 38.323 clause 5.2.2.2); without
    it, jitter and retransmissions reorder packets. Raises BadParameter for a negative jitter.
    """

    seed: int
    jitter_s: float = 0.0
    in_order: bool = True

    def __post_init__(self) -> None:
        at_least("jitter_s", self.jitter_s, 0.0)


@dataclass(kw_only=True, slots=True)
class Count:
    """Packet counters of one client and direction: offered = dropped + lost + forwarded + pending.

    Dropped packets met a full queue; lost packets were given up by the link. `resent` counts the
    retransmissions of all packets. `busy_s` is the time during which packets were in flight.
    """

    offered: int = 0
    offered_bytes: int = 0
    dropped: int = 0
    lost: int = 0
    forwarded: int = 0
    forwarded_bytes: int = 0
    resent: int = 0
    busy_s: float = 0.0
    pending: int = 0

    @property
    def loss_rate(self) -> float:
        """The share of decided packets that the link lost; 0 without any."""
        decided = self.lost + self.forwarded
        return self.lost / decided if decided else 0.0

    @property
    def throughput_bps(self) -> float:
        """Forwarded bits over `busy_s`; 0 if no packet was in flight."""
        return 8.0 * self.forwarded_bytes / self.busy_s if self.busy_s else 0.0


class Switch:
    """Holds every packet until the time that its decider set, and counts."""

    def __init__(self, decider: Decider, network: str, clients: int, order: DeliveryOrder) -> None:
        """`network` is in CIDR notation, as 10.77.0.0/24. Raises BadParameter if it is too small."""
        hosts = addresses(network, clients)
        ports = zip(hosts, [SERVER, *range(clients)], strict=True)
        self._ports = {ipaddress.ip_address(host).packed: port for host, port in ports}
        self._decider, self._order = decider, order
        self._kept: dict[tuple[int, str, int], tuple[bytes, int]] = {}
        self._due: list[tuple[float, int, PacketOutcome]] = []
        self._turn = 0
        self._last_due_s = {(client, direction): 0.0 for client in range(clients) for direction in DIRECTIONS}
        self._began_s = dict(self._last_due_s)
        self.counts = {key: Count() for key in self._last_due_s}
        self.strays = 0
        """Packets that are not IPv4, or whose destination is not a node of the network."""

    def take(self, port: int, packet: bytes, now_s: float) -> None:
        """Accepts a packet from the server or a client."""
        target = self._ports.get(packet[16:20]) if packet[:1] and packet[0] >> 4 == 4 else None
        if target is None or target == port:
            self.strays += 1
        elif port == SERVER:
            self._offer(target, "down", packet, target, now_s)
        else:
            self._offer(port, "up", packet, target, now_s)

    def release(self, now_s: float) -> Iterator[tuple[float, int, bytes]]:
        """The packets due by now: due time in seconds, port, packet."""
        self._schedule(now_s)
        while self._due and self._due[0][0] <= now_s:
            due_s, _, outcome = heapq.heappop(self._due)
            packet, target = self._kept.pop((outcome.client, outcome.direction, outcome.number))
            self._count(outcome, due_s, len(packet))
            if not outcome.arrived:
                continue
            if outcome.direction == "up" and target != SERVER:
                self._offer(target, "down", packet, target, now_s)
                self._schedule(now_s)
            else:
                yield due_s, target, packet

    def next_s(self) -> float:
        """The time of the next `release`, unless a packet is accepted before."""
        due_s = self._due[0][0] if self._due else float("inf")
        return min(due_s, self._decider.next_s())

    def _offer(self, client: int, direction: str, packet: bytes, target: int, now_s: float) -> None:
        count = self.counts[client, direction]
        count.offered += 1
        count.offered_bytes += len(packet)
        number = self._decider.offer(client, direction, len(packet), now_s)
        if number is None:
            count.dropped += 1
            return
        self._kept[client, direction, number] = packet, target
        if not count.pending:
            self._began_s[client, direction] = now_s
        count.pending += 1

    def _schedule(self, now_s: float) -> None:
        for outcome in self._decider.decided(now_s):
            self._turn += 1
            heapq.heappush(self._due, (self._due_s(outcome), self._turn, outcome))

    def _due_s(self, outcome: PacketOutcome) -> float:
        due_s, order, line = outcome.due_s, self._order, (outcome.client, outcome.direction)
        if order.jitter_s:
            rng = stream(order.seed, "jitter", outcome.direction, outcome.client, outcome.number)
            due_s += order.jitter_s * rng.random()
        if order.in_order and outcome.arrived:
            due_s = self._last_due_s[line] = max(due_s, self._last_due_s[line])
        return due_s

    def _count(self, outcome: PacketOutcome, due_s: float, size_bytes: int) -> None:
        line = outcome.client, outcome.direction
        count = self.counts[line]
        count.pending -= 1
        count.resent += outcome.resent
        count.busy_s += max(due_s - self._began_s[line], 0.0)
        self._began_s[line] = max(due_s, self._began_s[line])
        if outcome.arrived:
            count.forwarded += 1
            count.forwarded_bytes += size_bytes
        else:
            count.lost += 1


def addresses(network: str, clients: int) -> list[str]:
    """The addresses of the server and of each client. Raises BadParameter if the network is too small."""
    hosts = ipaddress.ip_network(network)
    if hosts.num_addresses - 3 < clients:
        raise BadParameter(f"clients must be at most {hosts.num_addresses - 3} in {network}, got {clients}")
    return [str(hosts[1 + number]) for number in range(clients + 1)]
