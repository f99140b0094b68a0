"""`splitfl channel`: the channel emulator alone. Slow imports are inside the commands."""

import sys
from pathlib import Path

import click

from experiments.cli.exits import reports_errors
from splitfl.core.json_text import dumps

AS_JSON = click.option("as_json", "--json", is_flag=True, help="Print JSON for a script instead of a table.")
DURATION = click.option(
    "--duration", "duration_s", type=float, help="Seconds to simulate (default: the scenario's)."
)
FILE = click.Path(path_type=Path, dir_okay=False)
SEED = click.option("--seed", type=int, help="Random seed (default: the scenario's).")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def channel() -> None:
    """Use the channel emulator alone: scenarios, plots, checks against theory, traces.

    SCENARIO is a name of `splitfl channel list`, a .toml file, or the taps of a .mat or .npz file.
    """


@channel.command(name="list")
@AS_JSON
@reports_errors
def list_(as_json: bool) -> None:
    """List the scenarios that come with the package."""
    from channel.scenario import load as scenario
    from experiments.channel import tables as channel_tables

    rows = {name: scenario.load(name).about for name in scenario.names()}
    click.echo(dumps(rows, indent=2)) if as_json else channel_tables.listed(rows)


@channel.command()
@click.argument("scenario")
@DURATION
@SEED
@click.option("--out", type=FILE, help="Also write the plots of `plot` to this file.")
@reports_errors
def show(scenario: str, duration_s: float | None, seed: int | None, out: Path | None) -> None:
    """Print SINR, MCS, BLER and throughput over time, their quantiles, and a map."""
    from channel.api import simulate
    from experiments.channel import screen as channel_screen

    found = simulate(scenario, duration_s=duration_s, seed=seed)
    channel_screen.draw(found.scenario, found.result)
    if out is not None:
        from experiments.channel import picture as channel_picture

        click.echo(channel_picture.write(out, Path(scenario).stem, found.scenario, found.result))


@channel.command()
@click.argument("scenario")
@click.option(
    "--out", type=FILE, default=Path("channel.png"), show_default=True, help="A .png, .svg or .pdf."
)
@DURATION
@SEED
@reports_errors
def plot(scenario: str, out: Path, duration_s: float | None, seed: int | None) -> None:
    """Plot each quantity over time and its distribution, a map, and the throughput of every user."""
    from channel.api import simulate
    from experiments.channel import picture as channel_picture

    channel_picture.demand_suffix(out)
    found = simulate(scenario, duration_s=duration_s, seed=seed)
    click.echo(channel_picture.write(out, Path(scenario).stem, found.scenario, found.result))


@channel.command()
@click.option("--thorough", is_flag=True, help="Include checks that take minutes, or need root or Sionna.")
@click.option("rows", "--row", multiple=True, help="Only this row; may be repeated.")
@AS_JSON
@reports_errors
def check(thorough: bool, rows: tuple[str, ...], as_json: bool) -> None:
    """Check the channel models against theory; exit code 1 if any check fails."""
    from experiments.channel import checks as channel_checks
    from experiments.channel import tables as channel_tables

    verdicts = channel_checks.verdicts(rows, is_thorough=thorough)
    channel_tables.verdicts(verdicts, as_json)
    if any(found.is_bad for found in verdicts):
        sys.exit(1)


@channel.command(name="simulate")
@click.argument("scenario")
@DURATION
@SEED
@AS_JSON
@reports_errors
def simulate_(scenario: str, duration_s: float | None, seed: int | None, as_json: bool) -> None:
    """Simulate a scenario and print the results of every user."""
    from channel.api import simulate
    from experiments.channel import tables as channel_tables

    found = simulate(scenario, duration_s=duration_s, seed=seed)
    click.echo(dumps(channel_tables.rows(found), indent=2)) if as_json else channel_tables.users(found)


@channel.command()
@click.argument("scenario")
@click.argument("out", type=FILE)
@click.option("--user", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--direction", type=click.Choice(["up", "down"]), default="down", show_default=True)
@DURATION
@SEED
@reports_errors
def trace(
    scenario: str, out: Path, user: int, direction: str, duration_s: float | None, seed: int | None
) -> None:
    """Write a user's throughput to OUT: a .csv, .tsv or .npz table of rates, else a mahimahi trace.

    `splitfl channel emulate --trace` replays it.
    """
    from channel.api import simulate
    from experiments.channel import tables as channel_tables

    found = simulate(scenario, duration_s=duration_s, seed=seed)
    click.echo(channel_tables.write_trace(out, found.result, direction, user))


@channel.command()
@click.argument("scenario")
@click.option("--out", type=FILE, required=True, help="A .mat for Colosseum, or a .npz.")
@click.option("--users", type=click.IntRange(min=1), help="Only the first users; Colosseum has 52 nodes.")
@click.option("--step", "step_ms", type=click.IntRange(min=1), default=1, show_default=True, help="In ms.")
@DURATION
@SEED
@reports_errors
def export(
    scenario: str, out: Path, users: int | None, step_ms: int, duration_s: float | None, seed: int | None
) -> None:
    """Write a scenario's links as a channel matrix within Colosseum's limits; `simulate` replays it."""
    from experiments.channel import tables as channel_tables

    channel_tables.export(scenario, out, users, step_ms, duration_s, seed)
