"""`splitfl channel`: the radio by itself. Thin; what takes time is imported inside the commands."""

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

AS_JSON = click.option("as_json", "--json", is_flag=True, help="Print JSON for a script instead of a table.")
DURATION = click.option(
    "--duration", "duration_s", type=float, help="Seconds to simulate, if not the scenario's."
)
SEED = click.option("--seed", type=int, help="The seed, if not the scenario's.")


def _refuses_bad_input(command: Callable[..., None]) -> Callable[..., None]:
    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        from channel.errors import ChannelError

        try:
            command(*args, **kwargs)
        except ChannelError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(2)
        except OSError as error:
            click.echo(f"Error: {error.filename or 'the system'}: {error.strerror}", err=True)
            sys.exit(1)

    return guarded


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def channel() -> None:
    """Look at the emulated radio by itself: scenarios, pictures, checks against theory, traces.

    SCENARIO is a name of `splitfl channel list` or a .toml file.
    """


@channel.command(name="list")
@AS_JSON
@_refuses_bad_input
def list_(as_json: bool) -> None:
    """List the scenarios that come with the package."""
    from channel import scenario
    from experiments import channel_tables

    rows = {name: scenario.load(name).about for name in scenario.names()}
    click.echo(json.dumps(rows, indent=2)) if as_json else channel_tables.listed(rows)


@channel.command()
@click.argument("scenario")
@DURATION
@SEED
@click.option("--out", type=click.Path(path_type=Path), default=Path("channel.png"), show_default=True)
@_refuses_bad_input
def show(scenario: str, duration_s: float | None, seed: int | None, out: Path) -> None:
    """Draw SINR, MCS, block errors and throughput over time, their distributions, and a map."""
    from experiments import channel_picture, channel_tables

    made, result = channel_tables.simulated(scenario, duration_s, seed)
    channel_tables.users(result)
    click.echo(channel_picture.write(out, Path(scenario).stem, made, result))


@channel.command()
@AS_JSON
@_refuses_bad_input
def check(as_json: bool) -> None:
    """Hold this package against theory, check by check; exit code 1 if any differs."""
    from channel.conformance import CHECKS, verdict
    from experiments import channel_tables

    verdicts = [verdict(one) for one in CHECKS]
    channel_tables.verdicts(verdicts, as_json)
    if not all(found.is_good for found in verdicts):
        sys.exit(1)


@channel.command()
@click.argument("scenario")
@DURATION
@SEED
@AS_JSON
@_refuses_bad_input
def simulate(scenario: str, duration_s: float | None, seed: int | None, as_json: bool) -> None:
    """Run a scenario and say what every user got."""
    from experiments import channel_tables

    _, result = channel_tables.simulated(scenario, duration_s, seed)
    click.echo(json.dumps(channel_tables.rows(result), indent=2)) if as_json else channel_tables.users(result)


@channel.command()
@click.argument("scenario")
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--user", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--direction", type=click.Choice(["up", "down"]), default="down", show_default=True)
@DURATION
@SEED
@_refuses_bad_input
def trace(
    scenario: str, out: Path, user: int, direction: str, duration_s: float | None, seed: int | None
) -> None:
    """Write what one user got as a mahimahi trace to OUT, one line for each 1,500 bytes."""
    from channel.errors import BadParameter
    from channel.traces import write_mahimahi
    from experiments import channel_tables

    _, result = channel_tables.simulated(scenario, duration_s, seed)
    outcome = result.outcomes[direction]
    if user >= outcome.tries.size:
        raise BadParameter(f"user must lie in [0, {outcome.tries.size - 1}], got {user}")
    count = write_mahimahi(out, outcome.delivered_BU[:, user], outcome.bin_s)
    click.echo(f"{out}: {count} packets")
