"""Event-driven simulation of a cell: transfers are submitted while it runs, and deliveries are returned.

    engine = engine_of(scenario.load("urban-micro"))
    engine.submit(Transfer(client=0, direction="up", sequence=0, payload_bytes=10_000, start_s=0.0))
    for transfer, delivery in engine.advance(1.0): ...

Deterministic: deliveries depend on the submitted transfers only, not on the steps of `advance`.
"""

import math
from collections.abc import Iterable
from heapq import heappop, heappush

import numpy as np

from channel.cell.backlog import Backlog
from channel.cell.build_cell import cell_of
from channel.cell.cell import Cell
from channel.cell.mac import Mac
from channel.cell.transfers import Transfers
from channel.core.arrays import at_least, whole
from channel.core.errors import BadParameter
from channel.core.link import DIRECTIONS, Delivery, Transfer
from channel.propagation.directions import BothDirections
from channel.scenario.load import Scenario

RECOVERIES = ("acknowledged", "unacknowledged")
"""Blocks that HARQ gives up are retransmitted, or lost: RLC modes AM and UM (3GPP TS 38.322 clause 4.2.1)."""


class Engine:
    """A cell with a FIFO queue per user and direction.

    A message is cut into packets of `mtu_bytes`, the last one shorter; transport blocks carry the bytes of
    consecutive packets and messages. With recovery "acknowledged" bits that HARQ gives up are queued first
    again after the feedback delay: loss becomes delay, and every delivery is complete. With
    "unacknowledged" all packets with bits in such a block are lost. Transfers of a user out of coverage
    never end; `require_coverage` detects users that are certainly out of coverage.

    Of a delivery, `finish_s` is the end of the slot in which its last bit was decided. `retransmissions`
    counts failed transmissions of its blocks that were repeated, by HARQ or RLC. `airtime_s` is one slot per
    transmission, and `energy_j` the energy of the user's device for it (uplink: radiated power over
    efficiency plus circuit; downlink: circuit; without idle power). Messages in one block share both
    in proportion to their bits.
    """

    def __init__(self, cell: Cell, *, mtu_bytes: int = 1500, recovery: str = "acknowledged") -> None:
        """Starts at time 0; the traffic demands of the cell are ignored.

        Raises BadParameter for an MTU below 1 byte, an unknown recovery, and a cell in which every user is
        out of coverage.
        """
        whole("mtu_bytes", mtu_bytes, 1)
        if recovery not in RECOVERIES:
            raise BadParameter(f"recovery must be one of {', '.join(RECOVERIES)}, got {recovery!r}")
        if cell.is_out_of_coverage["up"].all() or cell.is_out_of_coverage["down"].all():
            cell.require_coverage([0])
        self.users, self._cell = cell.users, cell
        self._parameters, self._grant = cell.parameters, 0
        self._backlog = Backlog(len(DIRECTIONS) * cell.users, memory_grants=cell.parameters.memory_grants)
        self._mac = Mac(
            cell.parameters,
            BothDirections(sinr_models=cell.sinr_models, seed=cell.seed),
            self._backlog,
            cell.out_of_coverage_Q,
        )
        self._transfers = Transfers(
            cell.parameters,
            cell.device,
            self._backlog,
            mtu_bytes=mtu_bytes,
            is_acknowledged=recovery == "acknowledged",
        )
        self._empty: list[tuple[float, int, Transfer]] = []
        self._submitted = 0

    @property
    def now_s(self) -> float:
        """The simulated time: everything before it is decided."""
        return self._grant * self._parameters.grant_s

    @property
    def is_idle(self) -> bool:
        """Whether no message is open."""
        return self._transfers.is_empty and not self._empty

    def require_coverage(self, users: Iterable[int]) -> None:
        """See `Cell.require_coverage`; to be called before submitting transfers of these users."""
        self._cell.require_coverage(users)

    def submit(self, transfer: Transfer) -> None:
        """Queues a message; an empty one arrives at its start.

        Raises BadParameter for an unknown client, a start within grants that are already decided, and a start
        before that of an open message of the same queue.
        """
        queue = self._queue(transfer)
        before_s = self._transfers.last_start_s(queue)
        if transfer.start_s < before_s:
            raise BadParameter(
                f"start_s must be at least {before_s:g}, the start of the previous message, "
                f"got {transfer.start_s:g}"
            )
        if math.ceil(transfer.start_s / self._parameters.grant_s - 1e-9) < self._grant:
            raise BadParameter(
                f"start_s must be at least {self.now_s:g}, the simulated time, got {transfer.start_s:g}"
            )
        if transfer.payload_bytes:
            self._transfers.add(queue, transfer)
        else:
            heappush(self._empty, (transfer.start_s, self._submitted, transfer))
            self._submitted += 1

    def advance(self, until_s: float, *, to_first: bool = False) -> list[tuple[Transfer, Delivery]]:
        """Runs the grants that end by `until_s`; returns completed transfers in order of `finish_s`.

        With `to_first` it stops after the first grant in which a transfer completes, so that reactions to it
        can be submitted in time. Raises BadParameter for a time that is negative or not finite.
        """
        grant_s = self._parameters.grant_s
        end = max(math.floor(float(at_least("until_s", until_s, 0.0)) / grant_s + 1e-9), self._grant)
        if to_first and self._empty:
            end = min(end, max(math.ceil(self._empty[0][0] / grant_s - 1e-9), self._grant))
        over: list[tuple[Transfer, Delivery]] = []
        for tries in self._mac.tries(self._grant, end, most=1 if to_first else None):
            messages = self._transfers.count(tries, self.users)
            over += [(message.transfer, message.delivery()) for message in messages]
            if to_first and over:
                end = int(tries.blocks.slot_T[0]) // self._parameters.grant_slots + 1
                break
        self._grant = end
        while self._empty and self._empty[0][0] <= self.now_s + 1e-9 * grant_s:
            transfer = heappop(self._empty)[2]
            over.append((transfer, _nothing(transfer)))
        return sorted(over, key=_order)

    def _queue(self, transfer: Transfer) -> int:
        if not transfer.client < self.users:
            raise BadParameter(f"client must lie in [0, {self.users - 1}], got {transfer.client}")
        return DIRECTIONS.index(transfer.direction) * self.users + transfer.client


def engine_of(scenario: Scenario, *, mtu_bytes: int = 1500, recovery: str = "acknowledged") -> Engine:
    """An engine for the cell of a scenario, without its traffic; errors as in `Engine` and `cell_of`."""
    return Engine(cell_of(scenario), mtu_bytes=mtu_bytes, recovery=recovery)


def _nothing(transfer: Transfer) -> Delivery:
    return Delivery(
        arrived=np.ones(0, dtype=np.bool_),
        finish_s=transfer.start_s,
        retransmissions=0,
        airtime_s=0.0,
        energy_j=0.0,
    )


def _order(one: tuple[Transfer, Delivery]) -> tuple[float, str, int, int]:
    transfer, delivery = one
    return delivery.finish_s, transfer.direction, transfer.client, transfer.sequence
