"""Output of the channel commands: tables, JSON rows, traces and channel matrices."""

import math
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from channel.api import Simulation
from channel.cell.cell import CellResult
from channel.cell.sounding import sounded
from channel.cell.statistics import DirectionStatistics
from channel.core.errors import BadParameter
from channel.links import recordings as traces
from channel.links.recordings import LinkTrace
from channel.links.trace import read_recording
from channel.propagation import recorded_taps as taps
from channel.scenario import colosseum_file
from channel.scenario import load as scenarios
from channel.validation import Verdict
from splitfl.core.json_text import dumps
from splitfl.runtime.terminal import plain_console


def rows(found: Simulation) -> list[dict[str, Any]]:
    """One row for each user and direction; undefined values are None."""
    made = []
    for direction in found.result.outcomes:
        columns = found.columns(direction)
        for user in range(found.users):
            values = {name: column[user] for name, column in columns.items()}
            row = {name: float(value) if math.isfinite(value) else None for name, value in values.items()}
            made.append({"user": user, "direction": direction, **row})
    return made


def users(found: Simulation) -> None:
    """Prints a table; the energy of a device covers both directions."""
    names = ("user", "direction", "SINR dB", "Mbit/s", "BLER", "retries", "lost", "airtime s", "energy J")
    table = Table(*names, box=SIMPLE_HEAD, pad_edge=False)
    for row in rows(found):
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
    plain_console().print(table)


def listed(about: Mapping[str, str]) -> None:
    """Prints the scenarios and their descriptions."""
    table = Table("scenario", "description")
    for name, text in about.items():
        table.add_row(name, text)
    plain_console().print(table)


def verdicts(found: list[Verdict], as_json: bool) -> None:
    """Prints expected and measured values, tolerance and verdict of each check, as a table or JSON."""
    if as_json:
        rows = [{**asdict(one), "verdict": one.word, "is_good": one.is_good} for one in found]
        plain = [{name: None if value != value else value for name, value in row.items()} for row in rows]
        click.echo(dumps(plain, indent=2))
        return
    table = Table("row", "check", box=SIMPLE_HEAD, pad_edge=False)
    for name in ("expected", "measured", "tolerance", "verdict"):
        table.add_column(name, no_wrap=True)
    for one in found:
        numbers = (
            "" if value != value else f"{value:.5g}" for value in (one.expected, one.measured, one.tolerance)
        )
        word = "not run" if one.missing else "pass" if one.is_good else Text("FAIL", style="bold")
        table.add_row(one.row, one.what, *numbers, word)
    plain_console().print(table)
    for one in found:
        if one.missing:
            click.echo(f"row {one.row}, {one.what}: {one.word}")
    counts = [sum(one.is_good for one in found), sum(one.is_bad for one in found)]
    click.echo(f"{counts[0]} pass, {counts[1]} fail, {len(found) - sum(counts)} not run here")


def write_trace(out: Path, result: CellResult, direction: str, user: int) -> str:
    """Writes a table of rates for .csv, .tsv and .npz, else a mahimahi trace; returns a summary.

    A table's delay and loss are 0: its rate is that of delivered bits, after scheduling and retransmissions.
    Its last row, which holds for the rest of a replay, is the overall mean. Raises BadParameter for an
    unknown user, and for one without delivered bits.
    """
    outcome = result.outcomes[direction]
    if user >= outcome.tries.size:
        raise BadParameter(f"user must lie in [0, {outcome.tries.size - 1}], got {user}")
    if not outcome.delivered_bits[user]:
        raise BadParameter(
            f"a trace needs delivered bits, got none for user {user} ({direction}) in {result.duration_s:g} s"
        )
    writers = {".csv": traces.write_csv, ".tsv": traces.write_tsv, ".npz": traces.write_npz}
    writer = writers.get(out.suffix.lower())
    if writer is None:
        traces.write_mahimahi(out, outcome.delivered_BU[:, user], outcome.bin_s)
    else:
        writer(out, _rates(outcome, user))
    return f"{out}: {read_recording(out).summary}"


def _rates(outcome: DirectionStatistics, user: int) -> LinkTrace:
    """A row per bin, then the overall mean."""
    ends_s = outcome.bin_end_s
    time_s = np.round(np.append(ends_s - outcome.bin_s, ends_s[-1]), 9)
    rate_bps = np.append(outcome.delivered_BU[:, user] / outcome.bin_s, outcome.throughput_bps[user])
    nothing = np.zeros(time_s.shape)
    return LinkTrace(time_s=time_s, rate_bps=rate_bps, delay_s=nothing, loss_rate=nothing)


def export(
    name: str, out: Path, users: int | None, step_ms: int, duration_s: float | None, seed: int | None
) -> None:
    """Writes the channel matrix; prints the gain offset and the settings that replay it.

    Raises BadParameter for a matrix beyond Colosseum's limits, and for a suffix other than .mat and .npz.
    """
    suffix = out.suffix.lower()
    if suffix not in (".mat", ".npz"):
        raise BadParameter(f"a channel matrix must end in .mat or .npz, got {out.name!r}")
    made = scenarios.load(name)
    made = made if seed is None else replace(made, seed=seed)
    if users is not None:
        fewer = min(users, made.place.users)
        made = replace(made, place=replace(made.place, users=fewer))
    found = sounded(made, duration_s=duration_s, step_ms=step_ms)
    if suffix == ".mat":
        colosseum_file.write(out, found.matrix)
    else:
        taps.write_npz(out, found.matrix.taps)
    nodes, times = found.matrix.taps.nodes, found.matrix.taps.time_s_T.size
    click.echo(f"{out}: {nodes} nodes, {times} times; node 1 is the base station")
    click.echo(f"all gains raised by {found.raised_db:.2f} dB, which sets the strongest tap to 0 dB")
    silent = np.nan_to_num(found.silent_NN)
    for sender, receiver in np.argwhere(silent > 0.0):
        share = silent[sender, receiver]
        click.echo(
            f"from node {sender + 1} to {receiver + 1}: no tap above -43 dB for {share:.0%} of the time"
        )
    click.echo("without interference; to replay at the scenario's levels, use")
    click.echo(f'[place]\nenvironment = "taps"\nusers = {nodes - 1}\nloss_db = {found.raised_db:.2f}')
    click.echo(f'[fading]\nprofile = "none"\n[taps]\nfile = "{out.name}"')


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
