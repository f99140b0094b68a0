"""How blocks are made, sent and sent again; the same for both directions of a cell.

Axes: U users; F resource-block groups; I schemes; N numbers of groups.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from channel.cell.link_adaptation import TARGET, OuterLoop, Reach
from channel.cell.scheduler import Duplex, Scheduler
from channel.core.arrays import Array, above, at_least, whole
from channel.core.link import DIRECTIONS
from channel.phy.block_error import BlockErrorLaw
from channel.phy.harq import Harq
from channel.phy.mcs import SchemeTable
from channel.phy.transport_block import Allocation, code_blocks, transport_block_table


@dataclass(frozen=True, kw_only=True, eq=False)
class Rules:
    """The choices of a cell.

    A grant stands for `grant_slots` slots: 1 is a decision a slot, up to 8 is one control message for several
    slots (multi-slot scheduling, 3GPP TS 38.214 (V17) clause 5.1.2.1), which costs less time to simulate. The
    report that it rests on is the SINR of each group `report_delay_s` before. Retransmissions are
    synchronous: in the same groups, `round_trip_grants` later, at least `harq.round_trip_s`, and nothing
    else can have those groups; only then can the outer loop and the queues act on what became of a block,
    too. A user may send a new block and an old one in one slot.
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
        """Transport block size for each number of groups, from 0 on."""
        blocks = (count * self.blocks_per_group for count in range(self.groups + 1))
        return transport_block_table(self.allocation, self.table, blocks)

    def ready_grant(self, direction: str, start_s: float) -> int:
        """The first grant that can serve what is there at `start_s`: in the uplink it has to be asked for."""
        delay_s = self.duplex.grant_delay_s if direction == "up" else 0.0
        return math.ceil((start_s + delay_s) / self.grant_s - 1e-9)

    def payload_bits(self, scheme: NDArray[np.int64], groups: NDArray[np.int64]) -> Array:
        """The size of a transport block; for more groups than there are it means nothing."""
        return self._bits_IN[scheme, groups]

    @cached_property
    def _bits_IN(self) -> Array:
        # Columns that nobody has, of both directions, are counted as groups of one queue.
        beyond = (len(DIRECTIONS) - 1) * self.groups
        return np.pad(self.bits_IN.astype(np.float64), ((0, 0), (0, beyond)))

    @cached_property
    def code_IN2(self) -> Array:
        """Code blocks in such a block, and the bits of each."""
        rates = self.table.code_rate_I.tolist()
        cut = [
            [code_blocks(bits, rate) if bits else (0, 0) for bits in row]
            for row, rate in zip(self.bits_IN.tolist(), rates, strict=True)
        ]
        return np.asarray(cut, dtype=np.float64)

    @cached_property
    def reach(self) -> Reach:
        """What a SINR carries."""
        return Reach.of(self.law.threshold_db(target=TARGET, bits=1000.0), self.table.efficiency_I)

    @property
    def grant_s(self) -> float:
        """How long a grant lasts."""
        return self.slot_s * self.grant_slots

    @property
    def report_slots(self) -> int:
        """How many slots old a report is."""
        return round(self.report_delay_s / self.slot_s)

    @property
    def memory_grants(self) -> int:
        """After so many grants a block is decided, and everybody knows."""
        return (self.harq.max_tries + 1) * self.round_trip_grants

    @cached_property
    def round_trip_grants(self) -> int:
        """Grants from one try to the next: the round trip, up to where the duplex pattern fits again."""
        frame = math.lcm(self.grant_slots, self.duplex.period)
        frames = max(1, math.ceil(self.harq.round_trip_s / (frame * self.slot_s) - 1e-9))
        return frames * frame // self.grant_slots
