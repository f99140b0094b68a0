"""Tables of what a simulated cell did, for a person and for a script."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from channel import scenario as scenarios
from channel.building import cell_of
from channel.cell import Result
from channel.conformance import Verdict
from channel.scenario import Scenario


def simulated(name: str, duration_s: float | None, seed: int | None) -> tuple[Scenario, Result]:
    """A scenario and what its cell did. Raises BadParameter for bad input."""
    made = scenarios.load(name)
    made = made if seed is None else replace(made, seed=seed)
    made = made if duration_s is None else replace(made, duration_s=duration_s)
    return made, cell_of(made).simulate(made.duration_s)


def rows(result: Result) -> list[dict[str, Any]]:
    """One row for each user and direction; what does not exist is None."""
    found = []
    for direction, outcome in result.outcomes.items():
        for user in range(outcome.tries.size):
            values = {
                "mean_sinr_db": result.mean_sinr_db[direction][user],
                "throughput_bps": outcome.throughput_bps[user],
                "error_rate": outcome.error_rate[user],
                "retransmissions": outcome.retransmissions[user],
                "loss_rate": outcome.loss_rate[user],
                "airtime_s": outcome.airtime_s[user],
                "finish_s": outcome.finish_s[user],
                "device_energy_j": result.energy_j[user],
            }
            row = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
            found.append({"user": user, "direction": direction, **row})
    return found


def users(result: Result) -> None:
    """The same as a table; one energy a device, for both directions."""
    table = Table("user", "way", "SINR dB", "Mbit/s", "BLER", "retries", "lost", "airtime s", "energy J")
    for row in rows(result):
        table.add_row(
            str(row["user"]),
            row["direction"],
            f"{row['mean_sinr_db']:.1f}",
            f"{row['throughput_bps'] / 1e6:.2f}",
            _number(row["error_rate"]),
            f"{row['retransmissions']:.0f}",
            _number(row["loss_rate"]),
            f"{row['airtime_s']:.3f}",
            f"{row['device_energy_j']:.3f}",
        )
    Console().print(table)


def listed(about: Mapping[str, str]) -> None:
    """Names, and what they are."""
    table = Table("scenario", "what it is")
    for name, text in about.items():
        table.add_row(name, text)
    Console().print(table)


def verdicts(found: list[Verdict], as_json: bool) -> None:
    """Expected, measured, tolerance, verdict."""
    if as_json:
        click.echo(json.dumps([{**asdict(one), "is_good": one.is_good} for one in found], indent=2))
        return
    table = Table("row", "check", "expected", "measured", "tolerance", "verdict")
    for one in found:
        numbers = (f"{value:.5g}" for value in (one.expected, one.measured, one.tolerance))
        table.add_row(one.row, one.what, *numbers, "pass" if one.is_good else "[bold]FAIL[/bold]")
    Console().print(table)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
