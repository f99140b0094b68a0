"""The controller `auto` from round to round: each client's next plan, by the costs of the rounds so far.

A dry run gives each plan's costs. The ratio of actual to expected airtime and energy per byte in the last
round corrects them for each client's link and direction, and so does the client's measured speed, if
measured. Otherwise no wall clock is used: the same run has the same plans on every transport.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import torch

from channel.core.link import DIRECTIONS
from splitfl.accounting.ledger import Ledger, Traffic
from splitfl.config import AutoConfig, CodecConfig, RunConfig
from splitfl.controller.cost_table import (
    UNITS,
    Option,
    Pace,
    Table,
    declared,
    fitting_memory,
    plan_text,
    preference,
)
from splitfl.core.errors import ConfigError
from splitfl.core.events import Events
from splitfl.core.messages import Begin, Plan
from splitfl.core.state import State, tensor_in
from splitfl.methods.settings import without_unread


class Controller:
    """Every client's plan, chosen again after every `auto.every` rounds."""

    def __init__(self, config: RunConfig, ledger: Ledger, events: Events, table: Table) -> None:
        """`table` has the options of every client; empty if there is only one plan.

        Raises ConfigError if a client has no initial plan within the budget.
        """
        self._config = config
        self._ledger = ledger
        self._events = events
        self._candidates = candidates(config.auto)
        clients = range(config.federation.clients)
        self._table = table
        self._paces = declared(config)
        self._saved = [0.0 for _ in clients]  # unspent budget of completed rounds; negative if overspent
        self._counted = [0.0 for _ in clients]  # spending of the last completed round, as known at its end
        self._plans = [self._candidates[0] for _ in clients]
        if self._table:
            for client in clients:
                self._choose_plan(client, 0)

    def plan(self, client: int) -> Plan:
        """This client's current plan."""
        return self._plans[client]

    def begins(self, client: int, begin: Begin) -> None:
        """Records the measured speed of a client that begins a round, if given."""
        speed = begin.flops_per_s or 0.0
        if self._config.auto.speed == "measured" and 0.0 < speed < math.inf:
            self._paces[client] = replace(self._paces[client], flops=speed)

    def ended(self, round_index: int) -> None:
        """Updates the cost estimates after a round, and all plans when due."""
        if not self._table:
            return
        following = round_index + 1
        is_due = following % self._config.auto.every == 0 and following < self._config.federation.rounds
        for client in range(len(self._plans)):
            self._update_costs(client, round_index)
            if is_due:
                self._choose_plan(client, following)

    def state(self) -> State:
        """Plans, paces and unspent budget; see Stateful."""
        paces = [
            [
                pace.flops,
                *(pace.airtime[direction] for direction in DIRECTIONS),
                *(pace.energy[direction] for direction in DIRECTIONS),
            ]
            for pace in self._paces
        ]
        return {
            "plans": torch.tensor([self._candidates.index(plan) for plan in self._plans]),
            "paces": torch.tensor(paces, dtype=torch.float64),
            "budget": torch.tensor([self._saved, self._counted], dtype=torch.float64),
        }

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._plans = [self._candidates[at] for at in tensor_in(state, "plans").tolist()]
        self._paces = [
            Pace(
                flops=flops,
                airtime=dict(zip(DIRECTIONS, ratios[: len(DIRECTIONS)], strict=True)),
                energy=dict(zip(DIRECTIONS, ratios[len(DIRECTIONS) :], strict=True)),
            )
            for flops, *ratios in tensor_in(state, "paces").tolist()
        ]
        self._saved, self._counted = tensor_in(state, "budget").tolist()

    def _update_costs(self, client: int, round_index: int) -> None:
        late = self._spent(client, round_index - 1) - self._counted[client] if round_index else 0.0
        self._counted[client] = self._spent(client, round_index)
        self._saved[client] += self._config.auto.limit - self._counted[client] - late
        expected = next(one for one in self._table[client] if one.plan == self._plans[client])
        pace = self._paces[client]
        airtime, energy = dict(pace.airtime), dict(pace.energy)
        for direction in DIRECTIONS:
            found = self._ledger.traffic.get((round_index, client, direction))
            airtime[direction] = _ratio(found, expected.crosses[direction], _airtime_s) or airtime[direction]
            energy[direction] = _ratio(found, expected.crosses[direction], _energy_j) or energy[direction]
        self._paces[client] = replace(pace, airtime=airtime, energy=energy)

    def _spent(self, client: int, round_index: int) -> float:
        """This client's spending in this round, in the budget's unit."""
        config, ledger = self._config, self._ledger
        crossed = [
            ledger.traffic.get((round_index, client, direction), Traffic()) for direction in DIRECTIONS
        ]
        if config.auto.budget == "bytes":
            return float(sum(one.payload_bytes for one in crossed))
        if config.auto.budget == "joules":
            return sum(one.energy_j for one in crossed)
        client_s = ledger.flops.get((round_index, "client", client), 0.0) / self._paces[client].flops
        server_s = ledger.flops.get((round_index, "server", client), 0.0) / config.server.flops
        return sum(one.airtime_s for one in crossed) + client_s + server_s

    def _choose_plan(self, client: int, round_index: int) -> None:
        config, auto, pace = self._config, self._config.auto, self._paces[client]
        allowed = auto.limit + self._saved[client] / auto.every
        held = config.federation.client_cuts[client]
        options = fitting_memory(auto, client, self._table[client], held)
        spends = {one.plan: one.spends(auto.budget, pace, config.server.flops) for one in options}
        fitting = [one for one in options if spends[one.plan] <= allowed]
        unit = UNITS[auto.budget]
        if not fitting and not round_index:
            least = min(spends, key=lambda plan: spends[plan])
            raise ConfigError(
                f"auto finds no plan within its budget: client {client} spends at least {spends[least]:.4g} "
                f"{unit} in a round, {plan_text(least)}, and auto.limit is {auto.limit:.4g}"
            )

        def key(one: Option) -> tuple[float, ...]:
            return preference(auto, one.plan, one.seconds(pace, config.server.flops))

        best = min(fitting, key=key) if fitting else min(options, key=lambda one: spends[one.plan])
        before, self._plans[client] = self._plans[client], best.plan
        spends_now = f"{spends[best.plan]:.4g} {unit} of {allowed:.4g}"
        if best.plan != before or not round_index:
            what = f"one of {len(fitting)} plans that fit" if fitting else "no plan fits, so the cheapest"
            airtime_ratios = ", ".join(
                f"{direction} {pace.airtime[direction]:.3g}" for direction in DIRECTIONS
            )
            reason = (
                f"round {round_index + 1}, client {client}: {plan_text(best.plan)}, {what}: {spends_now}; "
                f"airtime over the dry run's: {airtime_ratios}; {pace.flops:.3g} FLOP/s"
            )
            self._ledger.chosen = (*self._ledger.chosen, reason)
        self._events.write(
            "plan",
            round=round_index,
            client=client,
            **vars(best.plan),
            expected=spends[best.plan],
            allowed=allowed,
            fitting=len(fitting),
        )


def candidates(auto: AutoConfig) -> Sequence[Plan]:
    """All candidate plans of the settings."""
    return [
        Plan(method=method, cut=cut, rank=rank, codec=codec)
        for method, codec, rank, cut in product(auto.methods, auto.codecs, auto.ranks, auto.cuts)
    ]


def with_single_plan(config: RunConfig, plan: Plan) -> RunConfig:
    """The settings with this plan for all clients in all rounds."""
    auto = config.auto
    auto = replace(
        auto,
        methods=(plan.method,),
        head_lrs=tuple(
            rate for name, rate in zip(auto.methods, auto.head_lrs, strict=False) if name == plan.method
        ),
        cuts=(plan.cut,),
        ranks=(plan.rank,),
        codecs=(plan.codec,),
        client_memory_bytes=(),
        chosen=("dry run",),
    )
    cuts = (plan.cut,) * config.federation.clients
    planned = replace(
        config,
        auto=auto,
        codec=CodecConfig.at_cut(plan.codec),
        federation=replace(config.federation, client_cuts=cuts),
        partition=replace(config.partition, cut=plan.cut),
    )
    return without_unread(planned)


def _airtime_s(traffic: Traffic) -> float:
    return traffic.airtime_s


def _energy_j(traffic: Traffic) -> float:
    return traffic.energy_j


def _ratio(found: Traffic | None, expected: Traffic, of: Callable[[Traffic], float]) -> float | None:
    """Actual over expected cost per byte; None without traffic or cost."""
    if found is None or not (found.payload_bytes and expected.payload_bytes and of(expected)):
        return None
    return of(found) / found.payload_bytes / (of(expected) / expected.payload_bytes)
