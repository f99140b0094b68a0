"""Radio parameters of a cell, the same in both directions.

Axes: U users; F resource-block groups; I schemes; N numbers of groups.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from channel.cell.link_adaptation import TARGET, OuterLoop, SchemeLookup
from channel.cell.scheduler import Duplex, Scheduler
from channel.core.arrays import Array, above, at_least, whole
from channel.core.link import DIRECTIONS
from channel.phy.block_error import BlockErrorLaw
from channel.phy.harq import Harq
from channel.phy.mcs import SchemeTable
from channel.phy.transport_block import Allocation, code_blocks, transport_block_table


@dataclass(frozen=True, kw_only=True, eq=False)
class CellParameters:
    """Modulation and coding, HARQ, scheduling and timing of a cell.

    A grant covers `grant_slots` slots: 1 is one decision per slot, up to 8 is one control message for several
    slots (multi-slot scheduling, 3GPP TS 38.214 (V17) clause 5.1.2.1), which is faster to simulate. It uses
    the SINRs of each group reported `report_delay_s` earlier. HARQ is synchronous: a retransmission uses the
    same groups `round_trip_grants` later, at least `harq.round_trip_s`, with priority over new data; the
    outer loop and the queues receive feedback after the same delay. A user may send a new block and a
    retransmission in one slot. Raises BadParameter for values out of range.
    """

    table: SchemeTable
    law: BlockErrorLaw
    harq: Harq
    outer: OuterLoop
    scheduler: Scheduler
    duplex: Duplex
    allocation: Allocation
    slot_s: float
    blocks_per_group: int
    groups: int
    grant_slots: int = 1
    report_delay_s: float = 0.004
    window_s: float = 0.1

    def __post_init__(self) -> None:
        above("slot_s", self.slot_s, 0.0)
        above("window_s", self.window_s, 0.0)
        at_least("report_delay_s", self.report_delay_s, 0.0)
        for name in ("blocks_per_group", "groups", "grant_slots"):
            whole(name, getattr(self, name), 1)

    @cached_property
    def bits_IN(self) -> NDArray[np.int64]:
        """The transport block size in bits (I, N) for each number of groups, from 0."""
        blocks = (count * self.blocks_per_group for count in range(self.groups + 1))
        return transport_block_table(self.allocation, self.table, blocks)

    def ready_grant(self, direction: str, start_s: float) -> int:
        """The first grant that can serve data queued at `start_s`; the uplink adds the request delay."""
        delay_s = self.duplex.grant_delay_s if direction == "up" else 0.0
        return math.ceil((start_s + delay_s) / self.grant_s - 1e-9)

    def payload_bits(self, scheme: NDArray[np.int64], groups: NDArray[np.int64]) -> Array:
        """The transport block size in bits; 0 for more groups than the carrier has."""
        return self._bits_IN[scheme, groups]

    @cached_property
    def _bits_IN(self) -> Array:
        # Unallocated columns of both directions count as groups of one queue.
        beyond = (len(DIRECTIONS) - 1) * self.groups
        return np.pad(self.bits_IN.astype(np.float64), ((0, 0), (0, beyond)))

    @cached_property
    def code_IN2(self) -> Array:
        """The number of code blocks of a transport block, and the bits of each: (I, N, 2)."""
        rates = self.table.code_rate_I.tolist()
        cut = [
            [code_blocks(bits, rate) if bits else (0, 0) for bits in row]
            for row, rate in zip(self.bits_IN.tolist(), rates, strict=True)
        ]
        return np.asarray(cut, dtype=np.float64)

    @cached_property
    def scheme_lookup(self) -> SchemeLookup:
        """The mapping from SINR to scheme at a BLER of `TARGET`."""
        return SchemeLookup.of(self.law.threshold_db(target=TARGET, bits=1000.0), self.table.efficiency_I)

    @property
    def grant_s(self) -> float:
        """The duration of a grant."""
        return self.slot_s * self.grant_slots

    @property
    def report_slots(self) -> int:
        """The age of a report in slots."""
        return round(self.report_delay_s / self.slot_s)

    @property
    def memory_grants(self) -> int:
        """The number of grants after which a block is decided and its feedback received."""
        return (self.harq.max_tries + 1) * self.round_trip_grants

    @cached_property
    def round_trip_grants(self) -> int:
        """Grants from one transmission to the next: the round trip, rounded up to the duplex period."""
        frame = math.lcm(self.grant_slots, self.duplex.period)
        frames = max(1, math.ceil(self.harq.round_trip_s / (frame * self.slot_s) - 1e-9))
        return frames * frame // self.grant_slots
