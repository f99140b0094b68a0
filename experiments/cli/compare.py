"""`splitfl compare` and `splitfl plan`: slow imports are inside the commands."""

from pathlib import Path

import click

from experiments.cli.exits import reports_errors
from experiments.cli.options import AS_JSON, DATA, SET, with_data

WITH = click.option(
    "own",
    "--with",
    multiple=True,
    metavar="LABEL:TABLE.KEY=VALUE",
    help="A setting for one method only; may be repeated.",
)


@click.command()
@click.argument("folders", metavar="[RUN...]", nargs=-1, type=click.Path(path_type=Path))
@click.option("--methods", metavar="A,B,C", help="Run these methods side by side; METHOD@NAME is a variant.")
@click.option("--preset", default="demo", show_default=True, help="The preset to run them on.")
@click.option(
    "budgets",
    "--budget",
    multiple=True,
    metavar="KIND=AMOUNT",
    help="bytes=50MB, airtime=60s, energy=5J, client_memory=200MB or steps=300; may be repeated.",
)
@click.option("--seeds", type=click.IntRange(1), default=3, show_default=True, help="Number of seeds.")
@click.option("--jobs", type=click.IntRange(1), help="Number of parallel processes (default: 1).")
@click.option(
    "--on",
    default="processes",
    show_default=True,
    metavar="BACKEND",
    help="Where to run them: processes, or a Ray cluster, ray:HOST:PORT, ray:auto, or ray (of this machine).",
)
@click.option(
    "--max-rounds", type=click.IntRange(1), help="Maximum number of rounds (default: 10 x the preset's)."
)
@click.option(
    "--until",
    type=click.FloatRange(0.0, min_open=True),
    metavar="METRIC",
    help="Also report the bytes sent until this metric is reached (0.9: accuracy 90 %).",
)
@click.option(
    "--at",
    metavar="KIND=AMOUNT",
    help="Also report the metric reached within this spending: bytes=50MB, airtime=60s or energy=5J.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), help="The folder of the runs, or the HTML file for given RUNs."
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
    jobs: int | None,
    on: str,
    max_rounds: int | None,
    until: float | None,
    at: str | None,
    out: Path | None,
    overrides: tuple[str, ...],
    own: tuple[str, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Compare methods by running them, or compare existing runs.

    With --methods every method starts from the same weights, data, sample order and link, and runs as many
    rounds as the budget allows, with several seeds; finished runs are reused. Otherwise the given RUNs are
    compared: a table in the terminal, and a page with plots.
    """
    if (methods is None) == (not folders):
        raise click.UsageError("give either RUN folders or --methods A,B,C")
    if methods is None:
        from experiments.compare.existing_runs import compare_runs

        compare_runs(list(folders), out or Path("comparison.html"), as_json)
        return
    from experiments.cli import preflight

    preflight.check_air(preset, with_data(overrides, data))
    from experiments.compare import command
    from splitfl.comparison.backends import backend_of

    command.compare(
        preset,
        methods,
        with_data(overrides, data),
        own,
        budgets,
        seeds,
        backend_of(on, jobs),
        max_rounds,
        out or Path("runs"),
        as_json,
        until,
        at,
    )


@click.command()
@click.argument("preset")
@click.option("--methods", metavar="A,B,C", help="Compare these methods instead of the preset's.")
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
    """Print a run's costs before it is run: bytes, airtime, energy, FLOPs, memory.

    A dry run sends the run's messages over its link with shape-only pieces, so the figures equal those
    of the run's ledger to the byte.
    """
    from experiments.cli import preflight

    preflight.check_planning(preset, with_data(overrides, data))
    from experiments.compare import command

    command.plan(preset, methods, with_data(overrides, data), own, as_json)
