"""The outcome of a comparison: each entrant's figures over its seeds, with the interval they leave open."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

from rich.table import Table
from scipy.stats import t as student  # type: ignore[import-untyped]

from experiments.compare.entrants import Entrant
from experiments.compare.runs import Race
from splitfl.core.metrics import JUDGES, METRICS
from splitfl.core.quantities import bytes_text, flops_text, metric_text, scaled, seconds_text

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


def as_table(found: Sequence[Standing]) -> Table:
    """One row an entrant, best first."""
    metric = found[0].metric
    table = Table(box=None, pad_edge=False, header_style="bold", row_styles=["", "on grey7"])
    table.add_column("method", no_wrap=True)
    columns = (metric, "rounds", "up", "down", "airtime", "radiated", "client memory", "client work", "time")
    for name in (*columns, "wall"):
        table.add_column(name, justify="right", no_wrap=True)
    for one in found:
        table.add_row(
            one.label,
            metric_with_margin(one),
            f"{one.rounds}{'+' if one.is_capped else ''}",
            bytes_text(one.bytes_up),
            bytes_text(one.bytes_down),
            seconds_text(one.airtime_s),
            scaled(one.energy_j, "J", prefixes=()),
            bytes_text(one.client_memory_bytes),
            flops_text(one.client_flops),
            seconds_text(one.virtual_s),
            seconds_text(one.wall_s),
        )
    return table


def metric_with_margin(one: Standing) -> str:
    """See with_margin."""
    return with_margin(one.metric, one.mean, one.margin)


def with_margin(metric: str, mean: float, margin: float | None) -> str:
    """`85.4 % +- 0.3`."""
    shown = metric_text(metric, mean)
    if margin is None:
        return shown
    return f"{shown} ± {100 * margin:.1f}" if METRICS[metric].is_share else f"{shown} ± {margin:.3f}"


def as_json(found: Sequence[Standing]) -> list[dict[str, Any]]:
    """The same for a script."""
    return [{**vars(one), "mean": one.mean, "margin": one.margin} for one in found]


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
        client_memory_bytes=entrant.plan.rehearsal.client.total_bytes,
        is_capped=entrant.plan.is_capped,
    )
