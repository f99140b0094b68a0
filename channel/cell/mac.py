"""The MAC layer of a cell, both directions, grant by grant: reports, scheduling, transmission and HARQ.

Axes: G grants of a batch; R slots of a batch, S of a grant; D directions; F resource-block groups; C columns
of a slot, direction x F + group; U users; Q queues, direction x U + user, and a last one that stays
empty; T blocks; M transmissions.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from channel.cell.allocation import SlotAllocation
from channel.cell.backlog import Backlog
from channel.cell.blocks import Blocks, IntArray, Transmissions
from channel.cell.grants import GrantAllocator, columns_per_queue
from channel.cell.parameters import CellParameters
from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.propagation.directions import BothDirections

_REPORTS = 2**16
"""SINRs evaluated at once: few enough for the processor's cache, enough to amortise the overhead of numpy."""


class Mac:
    """The state of both directions.

    A grant depends on the `backlog` at its start, and on acknowledgements that are at least
    `parameters.round_trip_grants` grants old. Up to that many grants are therefore processed as one batch;
    the results do not depend on the batch size.
    """

    def __init__(
        self,
        parameters: CellParameters,
        directions: BothDirections,
        backlog: Backlog,
        out_Q: NDArray[np.bool_] | None = None,
    ) -> None:
        """Queues in `out_Q` are out of coverage and never scheduled, so their backlog is ignored."""
        self._parameters, self._directions, self._backlog = parameters, directions, backlog
        self._users = directions.users
        self._queues = len(DIRECTIONS) * self._users
        self._in_coverage_Q = None if out_Q is None or not out_Q.any() else np.append(~out_Q, False)
        self._allocator = GrantAllocator(parameters, directions)
        self._columns = len(DIRECTIONS) * parameters.groups
        self._reported_together = max(_REPORTS // (self._columns * self._users), 1)
        self._in_flight = self._nothing = Blocks.none(parameters.groups, parameters.harq.max_tries)

    def next_busy(self, grant: int) -> int | None:
        """The first grant from `grant` on with possible activity; None if there is none."""
        self._backlog.ready(grant)
        left_Q = self._backlog.left_Q
        if np.count_nonzero(left_Q if self._in_coverage_Q is None else left_Q[self._in_coverage_Q]):
            return grant
        due_slots = self._in_flight.slot_T[:1].tolist()
        flying = [slot // self._parameters.grant_slots for slot in due_slots]
        coming = self._backlog.next_grant
        return min([*flying, *([] if coming is None else [coming])], default=None)

    def tries(self, first: int, end: int, *, most: int | None = None) -> Iterator[Transmissions]:
        """The transmissions from grant `first` up to `end`, in batches of at most `most` grants.

        Grants without possible activity are skipped at no cost.
        """
        grant = self.next_busy(first)
        while grant is not None and grant < end:
            count = min(most or self._parameters.round_trip_grants, end - grant)
            tries = self.run(grant, count)
            if tries is not None:
                yield tries
            grant = self.next_busy(grant + count)

    def run(self, first: int, count: int) -> Transmissions | None:
        """Schedules and transmits up to `parameters.round_trip_grants` grants; None if nothing was sent."""
        slots = self._parameters.grant_slots
        allocation = SlotAllocation.empty(count * slots, self._columns, self._queues)
        old, free_RC = self._returning(first * slots, count * slots)
        self._schedule(first, count, free_RC, allocation)
        sent = old.followed_by(self._filled(first * slots, allocation))
        return self._send(sent) if sent.count else None

    def _returning(self, first: int, count: int) -> tuple[Blocks, NDArray[np.bool_]]:
        """Retransmissions due in these slots, and the columns (R, C) that remain free."""
        due = int(np.searchsorted(self._in_flight.slot_T, first + count))
        if due == self._in_flight.count:
            old, self._in_flight = self._in_flight, self._nothing
        else:
            old, self._in_flight = self._in_flight.at(slice(due)), self._in_flight.at(slice(due, None))
        free_RC = self._open(first, count)
        if old.count:
            group, block = np.nonzero(old.held_FT)
            column = (old.queue_T[block] // self._users) * self._parameters.groups + group
            free_RC[old.slot_T[block] - first, column] = False
        return old, free_RC

    def _schedule(self, first: int, count: int, free_RC: NDArray[np.bool_], plan: SlotAllocation) -> None:
        """Fills the allocation, grant by grant; reports of several grants are evaluated together."""
        slots = self._parameters.grant_slots
        begin, end, report_GDFU, rate_GDFU = 0, 0, np.empty(0), np.empty(0)
        free_GC = np.asarray(free_RC.reshape(count, slots, -1).any(axis=1))
        place_GC, free_GD1 = self._allocator.places(free_GC)
        for at in range(count):
            self._backlog.ready(first + at)
            waiting = np.count_nonzero(self._backlog.left_Q)
            if not waiting:
                continue
            if at >= end:
                begin, end = at, min(at + self._reported_together, count)
                report_GDFU, rate_GDFU = self._reported(first + begin, end - begin)
            self._allocator.margins.apply_feedback(first + at)
            report_DFU, rate_DFU = report_GDFU[at - begin], rate_GDFU[at - begin]
            if waiting < self._queues:
                waits_Q = self._backlog.left_Q[:-1] > 0.0
                rate_DFU = rate_DFU * waits_Q.reshape(len(DIRECTIONS), 1, self._users)
            granted = self._allocator.allocate(first + at, report_DFU, rate_DFU, place_GC[at], free_GD1[at])
            rows = slice(at * slots, (at + 1) * slots)
            self._fill(*granted, free_RC[rows], rows.start, plan)

    def _reported(self, first: int, count: int) -> tuple[Array, Array]:
        """The reports for these grants (G, D, F, U): SINRs, and their spectral efficiencies."""
        parameters = self._parameters
        asked = [
            max(grant * parameters.grant_slots - parameters.report_slots, 0)
            for grant in range(first, first + count)
        ]
        report_GDFU = self._directions.reports(asked)
        return report_GDFU, parameters.scheme_lookup.efficiency(report_GDFU)

    def _open(self, first: int, count: int) -> NDArray[np.bool_]:
        """The columns (R, C) that the duplex pattern permits in these slots."""
        if not self._parameters.duplex.pattern:
            return np.ones((count, self._columns), dtype=np.bool_)
        slot_R = first + np.arange(count)
        opened = [self._parameters.duplex.is_open(direction, slot_R) for direction in DIRECTIONS]
        return np.repeat(np.stack(opened, axis=1), self._parameters.groups, axis=1)

    def _fill(
        self,
        queue_C: IntArray,
        scheme_C: IntArray,
        groups_C: IntArray,
        free_SC: NDArray[np.bool_],
        first: int,
        allocation: SlotAllocation,
    ) -> None:
        """Fills new blocks in the slots of a grant from the queues."""
        left_Q, sent_Q = self._backlog.left_Q, self._backlog.sent_Q
        for row, free_C in enumerate(free_SC, start=first):
            mine_C, mine_groups_C = queue_C, groups_C
            if len(free_SC) > 1:  # a grant of one slot has free columns only
                mine_C = np.where(free_C, queue_C, self._queues)
                mine_groups_C = columns_per_queue(mine_C)
            left_C, place_C = left_Q[mine_C], sent_Q[mine_C]
            payload_C = np.minimum(left_C, self._parameters.payload_bits(scheme_C, mine_groups_C))
            # A queue with several columns is written several times with equal values.
            left_Q[mine_C] = left_C - payload_C
            sent_Q[mine_C] = place_C + payload_C
            self._allocator.add_payload(mine_C, payload_C)
            allocation.queue_RC[row], allocation.scheme_RC[row] = mine_C, scheme_C
            allocation.payload_RC[row], allocation.place_RC[row] = payload_C, place_C

    def _filled(self, first: int, allocation: SlotAllocation) -> Blocks:
        """First transmissions: one block for each slot and queue with payload."""
        parameters = self._parameters
        cell_T = allocation.first_columns(self._queues)
        queue_T = allocation.queue_RC.take(cell_T)
        slot_T = cell_T // self._columns + first
        held_FT = allocation.held_FT(cell_T, parameters.groups)
        return Blocks(
            queue_T=queue_T,
            slot_T=slot_T,
            scheme_T=allocation.scheme_RC.take(cell_T),
            groups_T=held_FT.sum(axis=0),
            payload_T=allocation.payload_RC.take(cell_T),
            place_T=allocation.place_RC.take(cell_T),
            tries_T=np.zeros_like(queue_T),
            uniform_T=self._directions.uniform("luck", slot_T, queue_T),
            past_db_MT=np.full((parameters.harq.max_tries, cell_T.size), Blocks.NOT_TRIED_DB),
            held_FT=held_FT,
        )

    def _send(self, sent: Blocks) -> Transmissions:
        """Transmits blocks, decides decoding, and schedules feedback and retransmissions."""
        parameters = self._parameters
        group_w_T, full_power_groups_T = self._directions.powers(sent.slot_T, sent.queue_T)
        power_T = np.minimum(1.0, full_power_groups_T / sent.groups_T)
        group_H, block_H = sent.cells()
        sinr_H = self._directions.sinr(sent.slot_T, sent.queue_T, group_H, block_H) * power_T[block_H]
        alone_db = sent.effective_db(sinr_H, block_H, parameters.law.beta_I[sent.scheme_T])
        sent.past_db_MT[sent.tries_T, np.arange(sent.count)] = alone_db
        code_T2 = parameters.code_IN2[sent.scheme_T, sent.groups_T]
        rate_T = parameters.law.transport_block(
            sent.scheme_T, self._combined_db(sent, alone_db), code_T2[:, 1], code_T2[:, 0]
        )
        is_arq = parameters.harq.combining == "arq"
        uniform_T = self._directions.uniform("again", sent.slot_T, sent.queue_T) if is_arq else sent.uniform_T
        decoded_T = uniform_T >= rate_T
        self._allocator.margins.queue_feedback(sent, decoded_T)
        is_last = sent.tries_T + 1 >= parameters.harq.max_tries
        self._fly(sent, np.flatnonzero(~decoded_T & ~is_last))
        return Transmissions(
            blocks=sent,
            decoded_T=decoded_T,
            is_lost_T=~decoded_T & is_last,
            effective_db_T=alone_db,
            error_rate_T=rate_T,
            radiated_j_T=group_w_T * power_T * sent.groups_T * parameters.slot_s,
        )

    def _combined_db(self, sent: Blocks, alone_db: Array) -> Array:
        old = np.flatnonzero(sent.tries_T)
        if not old.size:
            return alone_db
        order_T = self._parameters.table.modulation_order_I[sent.scheme_T[old]]
        combined_TM = self._parameters.harq.combined_db(sent.past_db_MT[:, old].T, order_T)
        level_db = alone_db.copy()
        level_db[old] = combined_TM[np.arange(old.size), sent.tries_T[old]]
        return level_db

    def _fly(self, sent: Blocks, again: IntArray) -> None:
        """Schedules the retransmission of these blocks; blocks in flight are sorted by slot."""
        if not again.size:
            return
        kept = sent.at(again[np.argsort(sent.slot_T[again], kind="stable")])
        delay = self._parameters.round_trip_grants * self._parameters.grant_slots
        later = replace(kept, slot_T=kept.slot_T + delay, tries_T=kept.tries_T + 1)
        self._in_flight = self._in_flight.followed_by(later)
