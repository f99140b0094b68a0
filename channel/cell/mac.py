"""The MAC layer of a cell, both directions, grant by grant: reports, scheduling, transmission and HARQ.

Axes: G grants of a batch; R slots of a batch, S of a grant; D directions; F resource-block groups; C columns
of a slot, direction x F + group; U users; Q queues, direction x U + user, and a last one that stays
empty; T blocks; M transmissions.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from channel.cell.allocation import Plan
from channel.cell.backlog import Backlog
from channel.cell.blocks import Blocks, Tries, Whole
from channel.cell.outer_loop import Margins
from channel.cell.parameters import Rules
from channel.cell.sharing import Powers
from channel.core.arrays import Array
from channel.core.link import DIRECTIONS
from channel.propagation.directions import BothDirections


class Mac:
    """The state of both directions.

    A grant depends on the `backlog` at its start, and on acknowledgements that are at least
    `rules.round_trip_grants` grants old. Up to that many grants are therefore processed as one batch; the
    results do not depend on the batch size.
    """

    def __init__(
        self,
        rules: Rules,
        airs: BothDirections,
        backlog: Backlog,
        hopeless_Q: NDArray[np.bool_] | None = None,
    ) -> None:
        """Queues with `hopeless_Q` are never scheduled, so their backlog does not keep the MAC busy."""
        self._rules, self._airs, self._backlog = rules, airs, backlog
        self._users = airs.users
        self._queues = len(DIRECTIONS) * self._users
        self._hopeful_Q = (
            None if hopeless_Q is None or not hopeless_Q.any() else np.append(~hopeless_Q, False)
        )
        self._margins, self._mean_bps = Margins(rules, self._queues + 1), np.zeros(self._queues + 1)
        self._mean_DU = self._mean_bps[:-1].reshape(len(DIRECTIONS), self._users)
        self._mean_grant = 0
        self._turn = np.zeros((len(DIRECTIONS), 1), dtype=np.int64)
        self._columns = len(DIRECTIONS) * rules.groups
        # The queue of each user in each column; after them, for any user, the queue that stays empty.
        first_C = np.repeat(np.arange(len(DIRECTIONS)) * self._users, rules.groups)
        nobody_U = np.full(self._users, self._queues)
        self._queue_at = np.append(first_C[:, None] + np.arange(self._users), nobody_U)
        self._begin_C = np.arange(self._columns) * self._users
        self._nowhere = self._columns * self._users
        self._keep = float(np.exp(-rules.grant_s / rules.window_s))
        self._share = (1.0 - self._keep) / rules.grant_s
        self._powers = Powers(rules, airs)
        self._flying = self._nothing = Blocks.none(rules.groups, rules.harq.max_tries)

    def next_busy(self, grant: int) -> int | None:
        """The first grant from `grant` on with possible activity; None if there is none."""
        self._backlog.ready(grant)
        left_Q = self._backlog.left_Q
        if np.count_nonzero(left_Q if self._hopeful_Q is None else left_Q[self._hopeful_Q]):
            return grant
        flying = [int(self._flying.slot_T[0]) // self._rules.grant_slots] if self._flying.count else []
        coming = self._backlog.next_grant
        return min([*flying, *([] if coming is None else [coming])], default=None)

    def tries(self, first: int, end: int, *, most: int | None = None) -> Iterator[Tries]:
        """The transmissions from grant `first` up to `end`, in batches of at most `most` grants.

        Grants without possible activity are skipped at no cost.
        """
        grant = self.next_busy(first)
        while grant is not None and grant < end:
            count = min(most or self._rules.round_trip_grants, end - grant)
            tries = self.run(grant, count)
            if tries is not None:
                yield tries
            grant = self.next_busy(grant + count)

    def run(self, first: int, count: int) -> Tries | None:
        """Schedules and transmits up to `rules.round_trip_grants` grants; None if nothing was sent."""
        slots = self._rules.grant_slots
        plan = Plan.empty(count * slots, self._columns, self._queues)
        old, free_RC = self._returning(first * slots, count * slots)
        self._schedule(first, count, free_RC, plan)
        sent = old.followed_by(self._filled(first * slots, plan))
        return self._send(sent) if sent.count else None

    def _returning(self, first: int, count: int) -> tuple[Blocks, NDArray[np.bool_]]:
        """Retransmissions due in these slots, and the columns (R, C) that remain free."""
        due = int(np.searchsorted(self._flying.slot_T, first + count))
        if due == self._flying.count:
            old, self._flying = self._flying, self._nothing
        else:
            old, self._flying = self._flying.at(slice(due)), self._flying.at(slice(due, None))
        free_RC = self._open(first, count)
        if old.count:
            group, block = np.nonzero(old.held_FT)
            column = (old.queue_T[block] // self._users) * self._rules.groups + group
            free_RC[old.slot_T[block] - first, column] = False
        return old, free_RC

    def _schedule(self, first: int, count: int, free_RC: NDArray[np.bool_], plan: Plan) -> None:
        """Fills the plan, grant by grant; reports are evaluated together from the first active grant on."""
        slots = self._rules.grant_slots
        begin, report_GDFU, rate_GDFU = count, np.empty(0), np.empty(0)
        free_GC = np.asarray(free_RC.reshape(count, slots, -1).any(axis=1))
        begin_GC = np.where(free_GC, self._begin_C, self._nowhere)
        free_GD1 = free_GC.reshape(count, len(DIRECTIONS), -1).sum(axis=2, keepdims=True)
        for at in range(count):
            self._backlog.ready(first + at)
            waiting = np.count_nonzero(self._backlog.left_Q)
            if not waiting:
                continue
            if begin > at:
                begin, (report_GDFU, rate_GDFU) = at, self._reported(first + at, count - at)
            self._margins.hear(first + at)
            report_DFU, rate_DFU = report_GDFU[at - begin], rate_GDFU[at - begin]
            if waiting < self._queues:
                waits_Q = self._backlog.left_Q[:-1] > 0.0
                rate_DFU = rate_DFU * waits_Q.reshape(len(DIRECTIONS), 1, self._users)
            granted = self._granted(first + at, report_DFU, rate_DFU, begin_GC[at])
            self._turn += free_GD1[at]
            rows = slice(at * slots, (at + 1) * slots)
            self._fill(*granted, free_RC[rows], rows.start, plan)

    def _reported(self, first: int, count: int) -> tuple[Array, Array]:
        """The reports for these grants (G, D, F, U): SINRs, and their spectral efficiencies."""
        rules = self._rules
        asked = [
            max(grant * rules.grant_slots - rules.report_slots, 0) for grant in range(first, first + count)
        ]
        report_GDFU = self._airs.reports(asked)
        return report_GDFU, rules.reach.efficiency(report_GDFU)

    def _open(self, first: int, count: int) -> NDArray[np.bool_]:
        """The columns (R, C) that the duplex pattern permits in these slots."""
        if not self._rules.duplex.pattern:
            return np.ones((count, self._columns), dtype=np.bool_)
        slot_R = first + np.arange(count)
        opened = [self._rules.duplex.is_open(direction, slot_R) for direction in DIRECTIONS]
        return np.repeat(np.stack(opened, axis=1), self._rules.groups, axis=1)

    def _granted(
        self, grant: int, report_DFU: Array, rate_DFU: Array, begin_C: Whole
    ) -> tuple[Whole, Whole, Whole]:
        """The queue (C,), the scheme (C,) and the number of columns of that queue (C,) for every column.

        `begin_C` is the offset of a column's users in `_queue_at`, or its end if the column is not free.
        """
        self._forget(grant)
        self._powers.look_up(grant)
        place_C, queue_C = self._chosen(rate_DFU, begin_C, None)
        groups_C = _alike(queue_C)
        if self._powers.is_overfull(queue_C, groups_C):
            # A column that is not free belongs to no queue and uses no power.
            is_free_DF1 = (begin_C < self._nowhere).reshape(len(DIRECTIONS), -1, 1)
            rate_DFU = rate_DFU * (is_free_DF1 | ~self._powers.is_limited_D11)
            place_C, queue_C = self._chosen(rate_DFU, begin_C, self._powers.worth(report_DFU))
            groups_C = _alike(queue_C)
        heard_C = report_DFU.reshape(-1)[place_C]
        return queue_C, self._scheme(heard_C, queue_C, groups_C), groups_C

    def _chosen(self, rate_DFU: Array, begin_C: Whole, worth_DNU: Array | None) -> tuple[Whole, Whole]:
        """For every column the flat index in `rate_DFU` of its user, and its queue or the empty one."""
        choose = self._rules.scheduler.choose
        winner_C = choose(rate_DFU, self._mean_DU, self._turn, worth_DNU).reshape(-1)
        if worth_DNU is not None:
            begin_C = np.where(winner_C < 0, self._nowhere, begin_C)
            winner_C = np.maximum(winner_C, 0)
        place_C = self._begin_C + winner_C
        queue_C = self._queue_at[begin_C + winner_C]
        rate_C = rate_DFU.reshape(-1)[place_C]
        if np.count_nonzero(rate_C) < rate_C.size:
            queue_C[rate_C == 0.0] = self._queues
        return place_C, queue_C

    def _fill(
        self,
        queue_C: Whole,
        scheme_C: Whole,
        groups_C: Whole,
        free_SC: NDArray[np.bool_],
        first: int,
        plan: Plan,
    ) -> None:
        """Fills new blocks in the slots of a grant from the queues."""
        left_Q, sent_Q, mean_Q = self._backlog.left_Q, self._backlog.sent_Q, self._mean_bps
        for row, free_C in enumerate(free_SC, start=first):
            mine_C, mine_groups_C = queue_C, groups_C
            if len(free_SC) > 1:  # a grant of one slot has free columns only
                mine_C = np.where(free_C, queue_C, self._queues)
                mine_groups_C = _alike(mine_C)
            left_C, place_C = left_Q[mine_C], sent_Q[mine_C]
            payload_C = np.minimum(left_C, self._rules.payload_bits(scheme_C, mine_groups_C))
            # A queue with several columns is written several times with equal values.
            left_Q[mine_C] = left_C - payload_C
            sent_Q[mine_C] = place_C + payload_C
            mean_Q[mine_C] += self._share * payload_C
            plan.queue_RC[row], plan.scheme_RC[row] = mine_C, scheme_C
            plan.payload_RC[row], plan.place_RC[row] = payload_C, place_C

    def _forget(self, grant: int) -> None:
        """Decays the mean rates to the start of this grant."""
        if grant > self._mean_grant:
            self._mean_bps *= self._keep ** (grant - self._mean_grant)
            self._mean_grant = grant

    def _scheme(self, heard_C: Array, queue_C: Whole, groups_C: Whole) -> Whole:
        """The fastest scheme (C,) for the capacity-averaged SINR of a queue's groups, less its margin.

        At least the slowest scheme is chosen whatever the margin, which otherwise could never recover.
        """
        # With more groups than its power fills, a queue spreads the power over them.
        spread_C = heard_C * (self._powers.most_groups_Q[queue_C] / groups_C)
        growth_C = np.log1p(np.minimum(heard_C, spread_C))
        total_C = np.bincount(queue_C, growth_C)[queue_C]
        level_C = np.expm1(total_C / groups_C) / self._margins.of(queue_C)
        return self._rules.reach.scheme(level_C)

    def _filled(self, first: int, plan: Plan) -> Blocks:
        """First transmissions: one block for each slot and queue with payload."""
        rules = self._rules
        cell_T = plan.first_columns(self._queues)
        queue_T = plan.queue_RC.take(cell_T)
        slot_T = cell_T // self._columns + first
        held_FT = plan.held_FT(cell_T, rules.groups)
        return Blocks(
            queue_T=queue_T,
            slot_T=slot_T,
            scheme_T=plan.scheme_RC.take(cell_T),
            groups_T=held_FT.sum(axis=0),
            payload_T=plan.payload_RC.take(cell_T),
            place_T=plan.place_RC.take(cell_T),
            tries_T=np.zeros_like(queue_T),
            luck_T=self._airs.luck("luck", slot_T, queue_T),
            past_db_MT=np.full((rules.harq.max_tries, cell_T.size), Blocks.NOT_TRIED_DB),
            held_FT=held_FT,
        )

    def _send(self, sent: Blocks) -> Tries:
        """Transmits blocks, decides decoding, and schedules feedback and retransmissions."""
        rules = self._rules
        group_w_T, most_groups_T = self._airs.powers(sent.slot_T, sent.queue_T)
        power_T = np.minimum(1.0, most_groups_T / sent.groups_T)
        group_H, block_H = sent.cells()
        sinr_H = self._airs.sinr(sent.slot_T, sent.queue_T, group_H, block_H) * power_T[block_H]
        alone_db = sent.effective_db(sinr_H, block_H, rules.law.beta_I[sent.scheme_T])
        sent.past_db_MT[sent.tries_T, np.arange(sent.count)] = alone_db
        code_T2 = rules.code_IN2[sent.scheme_T, sent.groups_T]
        rate_T = rules.law.transport_block(
            sent.scheme_T, self._combined_db(sent, alone_db), code_T2[:, 1], code_T2[:, 0]
        )
        is_arq = rules.harq.combining == "arq"
        luck_T = self._airs.luck("again", sent.slot_T, sent.queue_T) if is_arq else sent.luck_T
        came_T = luck_T >= rate_T
        self._margins.note(sent, came_T)
        is_last = sent.tries_T + 1 >= rules.harq.max_tries
        self._fly(sent, np.flatnonzero(~came_T & ~is_last))
        return Tries(
            blocks=sent,
            came_T=came_T,
            is_lost_T=~came_T & is_last,
            effective_db_T=alone_db,
            error_rate_T=rate_T,
            radiated_j_T=group_w_T * power_T * sent.groups_T * rules.slot_s,
        )

    def _combined_db(self, sent: Blocks, alone_db: Array) -> Array:
        old = np.flatnonzero(sent.tries_T)
        if not old.size:
            return alone_db
        order_T = self._rules.table.modulation_order_I[sent.scheme_T[old]]
        combined_TM = self._rules.harq.combined_db(sent.past_db_MT[:, old].T, order_T)
        level_db = alone_db.copy()
        level_db[old] = combined_TM[np.arange(old.size), sent.tries_T[old]]
        return level_db

    def _fly(self, sent: Blocks, again: Whole) -> None:
        """Schedules the retransmission of these blocks; blocks in flight are sorted by slot."""
        if not again.size:
            return
        kept = sent.at(again[np.argsort(sent.slot_T[again], kind="stable")])
        delay = self._rules.round_trip_grants * self._rules.grant_slots
        later = replace(kept, slot_T=kept.slot_T + delay, tries_T=kept.tries_T + 1)
        self._flying = self._flying.followed_by(later)


def _alike(queue_C: Whole) -> Whole:
    """For each column, the number of columns of its queue."""
    return np.bincount(queue_C)[queue_C]
