"""The standings of a comparison: each entrant's means over seeds, with confidence intervals."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean, stdev
from typing import Any

from scipy.stats import t as student  # type: ignore[import-untyped]

from splitfl.comparison.entrants import Entrant
from splitfl.comparison.runs import SeedRun
from splitfl.core.metrics import JUDGES, METRICS

BEST = {name: METRICS[name].better for name in (*JUDGES, "eval_loss")}
"""Whether the largest or the smallest value of each metric is best."""


@dataclass(frozen=True, kw_only=True)
class Standing:
    """An entrant's means over finished seeds; bytes, airtime and energy of all clients, FLOPs of one.

    `leaked` has the first figure of each attack on the last observed round.
    """

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
    leaked: Mapping[str, float] = field(default_factory=dict)

    @property
    def mean(self) -> float:
        """Mean of the metric over seeds."""
        return fmean(self.values)

    @property
    def margin(self) -> float | None:
        """Half the 95 % confidence interval of the mean; None for one seed."""
        return margin_of(self.values)


def margin_of(values: Sequence[float]) -> float | None:
    """Half of Student's 95 % interval, t(0.975, n - 1) s / sqrt(n), for normal values; None for one."""
    count = len(values)
    if count < 2:
        return None
    return float(student.ppf(0.975, count - 1)) * stdev(values) / math.sqrt(count)


def standings(entrants: Sequence[Entrant], runs: Sequence[SeedRun]) -> list[Standing]:
    """Standings of all entrants with a finished run, best first."""
    found = []
    for entrant in entrants:
        ended = {run.seed: run.summary() for run in runs if run.label == entrant.label}
        summary_by_seed = {seed: summary for seed, summary in ended.items() if summary is not None}
        if summary_by_seed:
            found.append(_standing(entrant, summary_by_seed))
    if found:
        found.sort(key=lambda one: one.mean, reverse=BEST[found[0].metric] is max)
    return found


def pareto(found: Sequence[Standing], spent: str) -> list[Standing]:
    """The Pareto front of metric against spending, cheapest first."""
    sign = 1.0 if BEST[found[0].metric] is max else -1.0
    front: list[Standing] = []
    for one in sorted(found, key=lambda standing: (cost(standing, spent), -sign * standing.mean)):
        best = sign * front[-1].mean if front else -math.inf
        is_level = bool(front) and (one.mean, cost(one, spent)) == (front[-1].mean, cost(front[-1], spent))
        if sign * one.mean > best or is_level:
            front.append(one)
    return front


def cost(standing: Standing, spent: str) -> float:
    """An entrant's spending of `bytes`, `airtime`, `energy` or `memory`."""
    return {
        "bytes": standing.bytes_up + standing.bytes_down,
        "airtime": standing.airtime_s,
        "energy": standing.energy_j,
        "memory": float(standing.client_memory_bytes),
    }[spent]


def _standing(entrant: Entrant, summary_by_seed: Mapping[int, Mapping[str, Any]]) -> Standing:
    summaries = list(summary_by_seed.values())
    metric = next(name for name in BEST if name in summaries[0]["final"])

    def mean(name: str) -> float:
        return fmean(summary[name] for summary in summaries)

    return Standing(
        label=entrant.label,
        method=entrant.config.method.name,
        rounds=entrant.plan.rounds,
        seeds=tuple(summary_by_seed),
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
        leaked={
            name: fmean(summary["leaks"][name]["value"] for summary in summaries)
            for name in summaries[0].get("leaks", {})
        },
    )
