"""`splitfl compare` and `splitfl plan`: what takes time is imported inside."""

from pathlib import Path

import click

from experiments.cli.exits import reports_errors
from experiments.cli.options import AS_JSON, DATA, SET, with_data

WITH = click.option(
    "own",
    "--with",
    multiple=True,
    metavar="LABEL:TABLE.KEY=VALUE",
    help="A setting for one of the methods only; may be given many times.",
)


@click.command()
@click.argument("folders", metavar="[RUN...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--methods", metavar="A,B,C", help="Run these methods side by side; METHOD@NAME is a variant.")
@click.option("--preset", default="demo", show_default=True, help="What they are run on.")
@click.option(
    "budgets",
    "--budget",
    multiple=True,
    metavar="KIND=AMOUNT",
    help="bytes=50MB, airtime=60s, energy=5J, client_memory=200MB or steps=300; may be given many times.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="How many seeds.")
@click.option("--jobs", type=click.IntRange(1), default=1, show_default=True, help="Runs at the same time.")
@click.option(
    "--max-rounds", type=click.IntRange(1), help="At most so many rounds (default: 10 x the preset's)."
)
@click.option(
    "--until",
    type=click.FloatRange(0.0, min_open=True),
    metavar="METRIC",
    help="Say too how many bytes each had sent when it was so good (0.9: accuracy 90 %).",
)
@click.option(
    "--at",
    metavar="KIND=AMOUNT",
    help="Say too how good each was when it had spent so much: bytes=50MB, airtime=60s or energy=5J.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder for runs, or the page of given ones."
)
@SET
@WITH
@DATA
@AS_JSON
@reports_errors
def compare(
    folders: tuple[Path, ...],
    methods: str | None,
    preset: str,
    budgets: tuple[str, ...],
    seeds: int,
    jobs: int,
    max_rounds: int | None,
    until: float | None,
    at: str | None,
    out: Path | None,
    overrides: tuple[str, ...],
    own: tuple[str, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Lay methods side by side, or runs that there are.

    With --methods every method starts from the same weights, data, order and link, and plays as many rounds
    as the budget allows, with several seeds; runs that are finished are not run again. Else the RUNs given
    are laid side by side: a table here, and a page with plots.
    """
    if (methods is None) == (not folders):
        raise click.UsageError("give either RUN folders or --methods A,B,C")
    if methods is None:
        from experiments import commands

        commands.compare(list(folders), out or Path("comparison.html"), as_json)
        return
    from experiments.cli import preflight

    preflight.check_air(preset, with_data(overrides, data))
    from experiments.compare import command

    command.compare(
        preset,
        methods,
        with_data(overrides, data),
        own,
        budgets,
        seeds,
        jobs,
        max_rounds,
        out or Path("runs"),
        as_json,
        until,
        at,
    )


@click.command()
@click.argument("preset")
@click.option("--methods", metavar="A,B,C", help="These methods beside each other, instead of the preset's.")
@SET
@WITH
@DATA
@AS_JSON
@reports_errors
def plan(
    preset: str,
    methods: str | None,
    overrides: tuple[str, ...],
    own: tuple[str, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Say what a run will cost before it is run: bytes, airtime, energy, work, memory.

    The run's own messages are sent over its link with pieces that compute nothing, so the figures are those
    that its ledger will have, to the byte.
    """
    from experiments.cli import preflight

    preflight.check_planning(preset, with_data(overrides, data))
    from experiments.compare import command

    command.plan(preset, methods, with_data(overrides, data), own, as_json)
