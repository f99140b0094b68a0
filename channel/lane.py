"""One direction of a cell, grant by grant: reports, schedules, sends, tries again, and counts.

Axes: S slots of a grant; U users; F resource-block groups; T blocks; I schemes; N numbers of groups.
"""

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from channel.air import Air
from channel.block_error import BlockErrorLaw
from channel.blocks import Blocks
from channel.harq import Harq
from channel.link_adaptation import TARGET, OuterLoop, fastest_scheme
from channel.mcs import SchemeTable
from channel.outcome import Outcome
from channel.queue import Demand
from channel.rng import stream
from channel.scheduler import NOBODY, Duplex, Scheduler, averaged
from channel.transport_block import Allocation, code_blocks, transport_block_table
from channel.units import ratio_to_db
from channel.values import Array, above, at_least, whole

_FAINTEST = 1e-30


@dataclass(frozen=True, kw_only=True, eq=False)
class Rules:
    """How blocks are made, sent and sent again; the same for both directions of a cell.

    A grant stands for `grant_slots` slots: 1 is a decision a slot, up to 8 is one control message for several
    slots (multi-slot scheduling, 3GPP TS 38.214 (V17) clause 5.1.2.1), which costs less time to simulate. The
    report that it rests on is the SINR of each group `report_delay_s` before. Retransmissions are
    synchronous: in the same groups, a whole number of grants later, at least `harq.round_trip_s`, and nothing
    else can have those groups. A user may send a new block and an old one in one slot.
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
        every = transport_block_table(self.allocation, self.table, self.groups * self.blocks_per_group)
        return every[:, :: self.blocks_per_group]

    @cached_property
    def code_IN2(self) -> NDArray[np.int64]:
        """Code blocks in such a block, and the bits of each."""
        rates = self.table.code_rate_I.tolist()
        cut = [
            [code_blocks(bits, rate) if bits else (0, 0) for bits in row]
            for row, rate in zip(self.bits_IN.tolist(), rates, strict=True)
        ]
        return np.asarray(cut, dtype=np.int64)

    @cached_property
    def threshold_db_I(self) -> Array:
        """From where on each scheme is chosen."""
        return self.law.threshold_db(target=TARGET, bits=1000.0)

    @property
    def round_trip_grants(self) -> int:
        """Grants from one try to the next: the round trip, up to where the duplex pattern fits again."""
        frame = math.lcm(self.grant_slots, self.duplex.period)
        frames = max(1, math.ceil(self.harq.round_trip_s / (frame * self.slot_s) - 1e-9))
        return frames * frame // self.grant_slots


class Lane:
    """One direction while it runs; `step` is called for grant 0, 1, 2 and so on."""

    def __init__(
        self, rules: Rules, air: Air, demand: Demand, outcome: Outcome, *, direction: str, seed: int
    ) -> None:
        self.outcome = outcome
        self._rules, self._air, self._demand = rules, air, demand
        self._direction, self._seed = direction, seed
        users = demand.start_s.size
        grant_delay_s = rules.duplex.grant_delay_s if direction == "up" else 0.0
        self._ready_s = demand.start_s + grant_delay_s
        self._left_bits = 8.0 * demand.payload_bytes
        self._margin_db, self._mean_bps = np.zeros(users), np.zeros(users)
        self._last_end_s = np.zeros(users)
        self._turn = 0
        self._efficiency = np.append(rules.table.efficiency_I, 0.0)
        self._flights: dict[int, Blocks] = {}

    @property
    def is_done(self) -> bool:
        """Whether all has been sent and decided."""
        return not self._flights and not self._left_bits.any()

    def step(self, grant: int) -> None:
        """Decides and carries out one grant."""
        rules = self._rules
        slot_S = grant * rules.grant_slots + np.arange(rules.grant_slots)
        open_S = rules.duplex.is_open(self._direction, slot_S)
        if not open_S.any():
            return
        again = self._flights.pop(grant, None)
        free_SF = np.repeat(open_S[:, None], rules.groups, axis=1)
        if again is not None:
            free_SF &= again.held_SF == NOBODY
        luck_SU = stream(self._seed, "luck", self._direction, grant).random(
            (2, rules.grant_slots, self._margin_db.size)
        )
        sent = self._granted(int(slot_S[0]), free_SF, luck_SU[0])
        if again is not None:
            sent = again.followed_by(sent)
        if sent.count:
            self._send(grant, sent, luck_SU[1])

    def _granted(self, first: int, free_SF: NDArray[np.bool_], luck_SU: Array) -> Blocks:
        """Hands out the free groups and fills new blocks from the queues."""
        rules, users = self._rules, self._margin_db.size
        asked = max(first - round(rules.report_delay_s / rules.slot_s), 0)
        report_UF = np.maximum(self._air.sinr(asked, 1)[0], _FAINTEST)
        waits_U = (self._left_bits > 0.0) & (self._ready_s <= first * rules.slot_s)
        rate_UF = self._efficiency[fastest_scheme(rules.threshold_db_I, ratio_to_db(report_UF))]
        winner_F = rules.scheduler.choose(rate_UF * waits_U[:, None], self._mean_bps, self._turn)
        owner_SF = np.where(free_SF, winner_F, NOBODY)
        slot, group = np.nonzero(owner_SF != NOBODY)
        self._turn += int((winner_F != NOBODY).sum())
        key = slot * users + owner_SF[slot, group]
        groups_SU = np.bincount(key, minlength=free_SF.shape[0] * users).reshape(-1, users)
        scheme_U = self._scheme(report_UF, winner_F, groups_SU.max(axis=0), first)
        bits_SU = rules.bits_IN[scheme_U, groups_SU].astype(np.float64)
        before_SU = np.cumsum(bits_SU, axis=0) - bits_SU
        payload_SU = np.minimum(np.maximum(self._left_bits - before_SU, 0.0), bits_SU)
        had_U = payload_SU.sum(axis=0)
        self._left_bits = self._left_bits - had_U
        self.outcome.sent_bits[:] += had_U
        step_s = rules.grant_slots * rules.slot_s
        self._mean_bps = averaged(self._mean_bps, had_U / step_s, step_s=step_s, window_s=rules.window_s)
        return Blocks.new(scheme_U, groups_SU, payload_SU, owner_SF, luck_SU, rules.harq.max_tries)

    def _scheme(
        self, report_UF: Array, winner_F: NDArray[np.int64], groups_U: NDArray[np.int64], first: int
    ) -> NDArray[np.int64]:
        """The fastest scheme for the SINR whose capacity is the mean over a user's groups, less its margin.

        A user in reach is never put out of it by its margin, for then nothing could ever lower that again.
        """
        group = np.nonzero(winner_F != NOBODY)[0]
        user = winner_F[group]
        users = self._margin_db.size
        power_U = self._scale(groups_U, np.arange(users), first)
        growth = np.log1p(report_UF[user, group] * power_U[user])
        count_U = np.maximum(np.bincount(user, minlength=users), 1)
        mean_U = np.expm1(np.bincount(user, weights=growth, minlength=users) / count_U)
        level_db = ratio_to_db(np.maximum(mean_U, _FAINTEST)) - self._margin_db
        return np.maximum(fastest_scheme(self._rules.threshold_db_I, level_db), 0)

    def _scale(self, groups_T: NDArray[np.int64], user_T: NDArray[np.int64], slot: int) -> Array:
        """The power in each of so many groups at once over that in a group alone: what the sender can."""
        most_U = self._air.most_w / self._air.group_w(slot)
        return np.minimum(1.0, most_U[user_T] / np.maximum(groups_T, 1))

    def _send(self, grant: int, sent: Blocks, luck_SU: Array) -> None:
        """The air, the decoder, and what follows from both."""
        rules, first = self._rules, grant * self._rules.grant_slots
        sinr_SUF = self._air.sinr(first, rules.grant_slots)
        scale_T = self._scale(sent.groups_T, sent.user_T, first)
        alone_db = sent.effective_db(sinr_SUF, scale_T, rules.law.beta_I[sent.scheme_T])
        sent.past_db_TM[np.arange(sent.count), sent.tries_T] = alone_db
        code_T2 = rules.code_IN2[sent.scheme_T, sent.groups_T].astype(np.float64)
        rate_T = rules.law.transport_block(
            sent.scheme_T, self._combined_db(sent, alone_db), code_T2[:, 1], code_T2[:, 0]
        )
        luck_T = luck_SU[sent.slot_T, sent.user_T] if rules.harq.combining == "arq" else sent.luck_T
        came_T = luck_T >= rate_T
        delta_db = rules.outer.updated_db(np.zeros(sent.count), came_T) * (sent.tries_T == 0)
        moved_db = self._margin_db + np.bincount(
            sent.user_T, weights=delta_db, minlength=self._margin_db.size
        )
        self._margin_db = np.clip(moved_db, -rules.outer.most_db, rules.outer.most_db)
        self._count(first, sent, scale_T, alone_db, rate_T, came_T)
        sent.tries_T[:] += 1
        again = ~came_T & (sent.tries_T < rules.harq.max_tries)
        if again.any():
            self._flights[grant + rules.round_trip_grants] = sent.only(again)

    def _combined_db(self, sent: Blocks, alone_db: Array) -> Array:
        old = sent.tries_T > 0
        if not old.any():
            return alone_db
        order_T = self._rules.table.modulation_order_I[sent.scheme_T[old]]
        combined_TM = self._rules.harq.combined_db(sent.past_db_TM[old], order_T)
        level_db = alone_db.copy()
        level_db[old] = np.take_along_axis(combined_TM, sent.tries_T[old][:, None], axis=1)[:, 0]
        return level_db

    def _count(
        self,
        first: int,
        sent: Blocks,
        scale_T: Array,
        sinr_db_T: Array,
        rate_T: Array,
        came_T: NDArray[np.bool_],
    ) -> None:
        rules, out, user_T = self._rules, self.outcome, sent.user_T
        is_first = sent.tries_T == 0
        is_lost = ~came_T & (sent.tries_T + 1 >= rules.harq.max_tries)
        end_T = (first + sent.slot_T + 1) * rules.slot_s
        group_w = self._air.group_w(first)[user_T] * scale_T
        sums = (
            (out.delivered_bits, sent.payload_T * came_T),
            (out.lost_bits, sent.payload_T * is_lost),
            (out.firsts, is_first),
            (out.first_failures, is_first & ~came_T),
            (out.tries, np.ones(sent.count)),
            (out.airtime_s, np.full(sent.count, rules.slot_s)),
            (out.radiated_j, group_w * sent.groups_T * rules.slot_s),
        )
        for total, part in sums:
            total += np.bincount(user_T, weights=part, minlength=total.size)
        at_bin = np.minimum(
            ((first + sent.slot_T) * rules.slot_s / out.bin_s + 1e-9).astype(np.int64), len(out.tries_BU) - 1
        )
        traces = (
            (out.delivered_BU, sent.payload_T * came_T),
            (out.tries_BU, np.ones(sent.count)),
            (out.failures_BU, ~came_T),
            (out.sinr_db_BU, sinr_db_T),
            (out.scheme_BU, sent.scheme_T),
            (out.error_rate_BU, rate_T),
        )
        for trace, part in traces:
            np.add.at(trace, (at_bin, user_T), part)
        np.maximum.at(self._last_end_s, user_T, end_T)
        done = (self._left_bits <= 0.0) & (out.flying_bits == 0.0) & np.isnan(out.finish_s)
        done &= out.sent_bits > 0.0
        out.finish_s[done] = self._last_end_s[done]
