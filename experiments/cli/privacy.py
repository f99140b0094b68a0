"""The commands on leakage."""

from pathlib import Path

import click

from experiments.cli.exits import reports_errors
from experiments.cli.imports import without_collections
from experiments.cli.options import AS_JSON, DATA, SET


@click.group()
def privacy() -> None:
    """What each party of a run sees."""


@privacy.command()
@click.argument("run_or_preset", metavar="RUN|PRESET")
@SET
@AS_JSON
@reports_errors
def show(run_or_preset: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """Print who sees what with the settings of a run or preset, and what each method's clients send."""
    with without_collections():
        from experiments import leakage

    leakage.show(run_or_preset, overrides, as_json)


@click.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@click.option("kinds", "--kind", required=True, multiple=True, help="An attack of `splitfl list attacks`.")
@click.option(
    "rounds", "--round", type=int, multiple=True, help="An observed round, from 1 (default: the last one)."
)
@click.option(
    "--age",
    type=int,
    default=0,
    show_default=True,
    help="Attack with the pieces of this many rounds earlier.",
)
@DATA
@AS_JSON
@reports_errors
def attack(
    folder: Path, kinds: tuple[str, ...], rounds: tuple[int, ...], age: int, data: str | None, as_json: bool
) -> None:
    """Attack what the server of a finished run observed, where all clients' data are.

    The run must have had privacy.probes. Scores are added to its metrics.jsonl and its report.
    """
    with without_collections():
        from experiments import leakage

    leakage.attack(folder, kinds, rounds, age, data, as_json)
