"""The controller `auto` from round to round: what each client is to do next, by what the rounds so far cost.

What a plan costs is rehearsed once. What the last round really took of a byte's airtime and energy, against
what it had been expected to, corrects that for every client's own link, either way; so does how fast the
client was found to work, where that is measured. Nothing is asked of the wall clock otherwise: the same run
is planned the same on every road.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import product

import torch

from channel.core.link import DIRECTIONS
from splitfl.accounting.ledger import Ledger, Traffic
from splitfl.config import AutoConfig, RunConfig
from splitfl.controller.cost_table import UNITS, Option, Pace, Table, declared, in_room, preference, shown
from splitfl.core.errors import ConfigError
from splitfl.core.events import Events
from splitfl.core.messages import Begin, Plan
from splitfl.core.state import State, tensor_in
from splitfl.methods.parts.plan import codec_config
from splitfl.methods.settings import without_unread


class Controller:
    """Every client's plan, decided anew each time that so many rounds are over."""

    def __init__(self, config: RunConfig, ledger: Ledger, events: Events, table: Table) -> None:
        """`table` is what there is to choose from, empty where there is one plan alone.

        Raises ConfigError where a client has none to begin with.
        """
        self._config = config
        self._ledger = ledger
        self._events = events
        self._candidates = candidates(config.auto)
        clients = range(config.federation.clients)
        self._table = table
        self._paces = declared(config)
        self._saved = [0.0 for _ in clients]  # of the budget, in the rounds that are over; below 0: overspent
        self._counted = [0.0 for _ in clients]  # of the last of these rounds, as far as its costs were known
        self._plans = [self._candidates[0] for _ in clients]
        if self._table:
            for client in clients:
                self._decide(client, 0)

    def plan(self, client: int) -> Plan:
        """What this client is to do."""
        return self._plans[client]

    def begins(self, client: int, asked: Begin) -> None:
        """A client begins a round, and may say how fast it has been."""
        speed = asked.flops_per_s or 0.0
        if self._config.auto.speed == "measured" and 0.0 < speed < math.inf:
            self._paces[client] = replace(self._paces[client], flops=speed)

    def ended(self, round_index: int) -> None:
        """A round is over: what it cost is learnt from, and where it is time everybody has a new plan."""
        if not self._table:
            return
        following = round_index + 1
        is_time = following % self._config.auto.every == 0 and following < self._config.federation.rounds
        for client in range(len(self._plans)):
            self._learn(client, round_index)
            if is_time:
                self._decide(client, following)

    def state(self) -> State:
        """Plans, paces and what is left of the budget; see Stateful."""
        paces = [
            [
                pace.flops,
                *(pace.airtime[way] for way in DIRECTIONS),
                *(pace.energy[way] for way in DIRECTIONS),
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

    def _learn(self, client: int, round_index: int) -> None:
        late = self._spent(client, round_index - 1) - self._counted[client] if round_index else 0.0
        self._counted[client] = self._spent(client, round_index)
        self._saved[client] += self._config.auto.limit - self._counted[client] - late
        expected = next(one for one in self._table[client] if one.plan == self._plans[client])
        pace = self._paces[client]
        airtime, energy = dict(pace.airtime), dict(pace.energy)
        for way in DIRECTIONS:
            found = self._ledger.traffic.get((round_index, client, way))
            airtime[way] = _ratio(found, expected.crosses[way], _airtime_s) or airtime[way]
            energy[way] = _ratio(found, expected.crosses[way], _energy_j) or energy[way]
        self._paces[client] = replace(pace, airtime=airtime, energy=energy)

    def _spent(self, client: int, round_index: int) -> float:
        """Of the budget, in this round."""
        config, ledger = self._config, self._ledger
        crossed = [ledger.traffic.get((round_index, client, way), Traffic()) for way in DIRECTIONS]
        if config.auto.budget == "bytes":
            return float(sum(one.payload_bytes for one in crossed))
        if config.auto.budget == "joules":
            return sum(one.energy_j for one in crossed)
        worked_s = ledger.flops.get((round_index, "client", client), 0.0) / self._paces[client].flops
        served_s = ledger.flops.get((round_index, "server", client), 0.0) / config.server.flops
        return sum(one.airtime_s for one in crossed) + worked_s + served_s

    def _decide(self, client: int, round_index: int) -> None:
        config, auto, pace = self._config, self._config.auto, self._paces[client]
        allowed = auto.limit + self._saved[client] / auto.every
        held = config.federation.client_cuts[client]
        options = in_room(auto, client, self._table[client], held)
        spends = {one.plan: one.spends(auto.budget, pace, config.server.flops) for one in options}
        fitting = [one for one in options if spends[one.plan] <= allowed]
        unit = UNITS[auto.budget]
        if not fitting and not round_index:
            least = min(spends, key=lambda plan: spends[plan])
            raise ConfigError(
                f"auto finds nothing within its budget: client {client} spends at least {spends[least]:.4g} "
                f"{unit} in a round, {shown(least)}, and auto.limit is {auto.limit:.4g}"
            )

        def key(one: Option) -> tuple[float, ...]:
            return preference(auto, one.plan, one.seconds(pace, config.server.flops))

        best = min(fitting, key=key) if fitting else min(options, key=lambda one: spends[one.plan])
        before, self._plans[client] = self._plans[client], best.plan
        spends_now = f"{spends[best.plan]:.4g} {unit} of {allowed:.4g}"
        if best.plan != before or not round_index:
            what = f"one of {len(fitting)} plans that fit" if fitting else "nothing fits, so the least"
            ways = ", ".join(f"{way} {pace.airtime[way]:.3g}" for way in DIRECTIONS)
            reason = (
                f"round {round_index + 1}, client {client}: {shown(best.plan)}, {what}: {spends_now}; "
                f"airtime over what was rehearsed: {ways}; {pace.flops:.3g} FLOP/s"
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
    """Every plan that the settings leave open."""
    return [
        Plan(method=method, cut=cut, rank=rank, codec=codec)
        for method, codec, rank, cut in product(auto.methods, auto.codecs, auto.ranks, auto.cuts)
    ]


def only(config: RunConfig, plan: Plan) -> RunConfig:
    """The same run with this one plan for everybody, always."""
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
        chosen=("rehearsed",),
    )
    cuts = (plan.cut,) * config.federation.clients
    told = replace(
        config,
        auto=auto,
        codec=codec_config(plan),
        federation=replace(config.federation, client_cuts=cuts),
        partition=replace(config.partition, cut=plan.cut),
    )
    return without_unread(told)


def _airtime_s(traffic: Traffic) -> float:
    return traffic.airtime_s


def _energy_j(traffic: Traffic) -> float:
    return traffic.energy_j


def _ratio(found: Traffic | None, expected: Traffic, of: Callable[[Traffic], float]) -> float | None:
    """What a byte took over what it was expected to; None where nothing can be said."""
    if found is None or not (found.payload_bytes and expected.payload_bytes and of(expected)):
        return None
    return of(found) / found.payload_bytes / (of(expected) / expected.payload_bytes)
