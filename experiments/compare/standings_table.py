"""The standings of a comparison as a table and as JSON."""

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from splitfl.comparison.ranking import Standing
from splitfl.core.metrics import METRICS
from splitfl.core.quantities import bytes_text, flops_text, metric_text, scaled, seconds_text


def as_table(found: Sequence[Standing]) -> Table:
    """One row per entrant, best first."""
    metric = found[0].metric
    table = Table(box=None, pad_edge=False, header_style="bold", row_styles=["", "on grey7"])
    table.add_column("method", no_wrap=True)
    columns = (metric, "rounds", "up", "down", "airtime", "radiated", "client memory", "client FLOPs", "time")
    attacks = attacks_in(found)
    for name in (*columns, "wall", *attacks):
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
            *(leaked_text(one, name) for name in attacks),
        )
    return table


def attacks_in(found: Sequence[Standing]) -> list[str]:
    """The attacks that any entrant was probed by."""
    return list(dict.fromkeys(name for one in found for name in one.leaked))


def leaked_text(one: Standing, attack: str) -> str:
    """What an attack recovered from an entrant, or its AUC, in percent; "" without this probe."""
    return f"{100 * one.leaked[attack]:.1f} %" if attack in one.leaked else ""


def metric_with_margin(one: Standing) -> str:
    """The entrant's mean metric with its margin."""
    return with_margin(one.metric, one.mean, one.margin)


def with_margin(metric: str, mean: float, margin: float | None) -> str:
    """The mean and its margin, for example `85.4 % ± 0.3`."""
    shown = metric_text(metric, mean)
    if margin is None:
        return shown
    return f"{shown} ± {100 * margin:.1f}" if METRICS[metric].is_share else f"{shown} ± {margin:.3f}"


def as_json(found: Sequence[Standing]) -> list[dict[str, Any]]:
    """The standings as plain data, for JSON."""
    return [{**vars(one), "mean": one.mean, "margin": one.margin} for one in found]
