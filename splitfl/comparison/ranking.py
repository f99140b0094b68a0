"""The outcome of a comparison: each entrant's figures over its seeds, with the interval they leave open."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student  # type: ignore[import-untyped]

from splitfl.comparison.entrants import Entrant
from splitfl.comparison.runs import Race
from splitfl.core.metrics import JUDGES, METRICS

BEST = {name: METRICS[name].better for name in (*JUDGES, "eval_loss")}
"""Which way each metric is better."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One entrant's means over the seeds that ended; bytes, airtime, energy of all clients, work of one."""

    label: str
    method: str
    rounds: int
    seeds: tuple[int, ...]
    metric: str
    values: tuple[float, ...]
    bytes_up: float
    bytes_down: float
    airtime_s: float
    energy_j: float
    virtual_s: float
    wall_s: float
    client_flops: float
    client_memory_bytes: int
    is_capped: bool

    @property
    def mean(self) -> float:
        """Of the metric over the seeds."""
        return fmean(self.values)

    @property
    def margin(self) -> float | None:
        """See margin_of."""
        return margin_of(self.values)


def margin_of(values: Sequence[float]) -> float | None:
    """Half of Student's 95 % interval, t(0.975, n - 1) s / sqrt(n), for normal seeds; None for one."""
    count = len(values)
    if count < 2:
        return None
    return float(student.ppf(0.975, count - 1)) * stdev(values) / math.sqrt(count)


def standings(entrants: Sequence[Entrant], run: Sequence[Race]) -> list[Standing]:
    """Every entrant that has a finished run, best first."""
    found = []
    for entrant in entrants:
        ended = {race.seed: race.summary() for race in run if race.label == entrant.label}
        own = {seed: summary for seed, summary in ended.items() if summary is not None}
        if own:
            found.append(_standing(entrant, own))
    if found:
        found.sort(key=lambda one: one.mean, reverse=BEST[found[0].metric] is max)
    return found


def pareto(found: Sequence[Standing], spent: str) -> list[Standing]:
    """Those that nobody beats in the metric without spending more; cheapest first."""
    sign = 1.0 if BEST[found[0].metric] is max else -1.0
    front: list[Standing] = []
    for one in sorted(found, key=lambda standing: (cost(standing, spent), -sign * standing.mean)):
        best = sign * front[-1].mean if front else -math.inf
        is_level = bool(front) and (one.mean, cost(one, spent)) == (front[-1].mean, cost(front[-1], spent))
        if sign * one.mean > best or is_level:
            front.append(one)
    return front


def cost(standing: Standing, spent: str) -> float:
    """What an entrant spent of `bytes`, `airtime`, `energy` or `memory`."""
    return {
        "bytes": standing.bytes_up + standing.bytes_down,
        "airtime": standing.airtime_s,
        "energy": standing.energy_j,
        "memory": float(standing.client_memory_bytes),
    }[spent]


def _standing(entrant: Entrant, own: Mapping[int, Mapping[str, Any]]) -> Standing:
    summaries = list(own.values())
    metric = next(name for name in BEST if name in summaries[0]["final"])

    def mean(name: str) -> float:
        return fmean(summary[name] for summary in summaries)

    return Standing(
        label=entrant.label,
        method=entrant.config.method.name,
        rounds=entrant.plan.rounds,
        seeds=tuple(own),
        metric=metric,
        values=tuple(float(summary["final"][metric]) for summary in summaries),
        bytes_up=mean("bytes_up"),
        bytes_down=mean("bytes_down"),
        airtime_s=mean("airtime_s"),
        energy_j=mean("energy_j"),
        virtual_s=mean("virtual_s"),
        wall_s=mean("wall_s"),
        client_flops=mean("client_flops") / entrant.config.federation.clients,
        client_memory_bytes=entrant.plan.dry_run.client.total_bytes,
        is_capped=entrant.plan.is_capped,
    )
