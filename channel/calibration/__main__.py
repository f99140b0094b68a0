"""`python -m channel.calibration`: simulates BLER points and fits bler_law.json to them."""

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from channel.calibration.document import by_curve, committed_points, law_of, write
from channel.calibration.fit import fitted
from channel.calibration.journal import Journal, provenance, read_lines
from channel.calibration.simulation import BlerCurve
from channel.calibration.sweep import curves, swept
from channel.coding.extra import require_numba
from channel.core.errors import ChannelError

JOURNAL = click.Path(path_type=Path, dir_okay=False)


def _refuses(command: Callable[..., None]) -> Callable[..., None]:
    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
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
def main() -> None:
    """Recompute the block error law: `simulate` a file of points, then `fit` it. Needs numba."""


@main.command()
@click.argument("points", type=JOURNAL)
@click.option("--blocks", type=int, default=10_000, show_default=True, help="Code blocks at each SNR.")
@click.option("--seed", type=int, default=0, show_default=True)
@_refuses
def simulate(points: Path, blocks: int, seed: int) -> None:
    """Simulate every scheme across its waterfall region into POINTS (JSON lines), on one core.

    Resumes an interrupted run; existing points are kept, whatever their number of blocks.
    """
    require_numba("simulating codes")
    every = curves()
    with Journal(points, provenance(seed)) as journal:
        for number, curve in enumerate(every, start=1):
            found = []
            for point in swept(curve, seed=seed, blocks=blocks, done=journal.known):
                journal.add(point)
                found.append(point)
                where = f"[{number}/{len(every)}] {curve}: {point.snr_db:g} dB"
                click.echo(f"\r{where}, {point.errors / point.blocks:.4f} fail\033[K", nl=False, err=True)
            fit = fitted(found)
            half = f"half fail at {fit.s50_db:.3f} dB, slope {fit.slope_per_db:.3f} per dB"
            click.echo(f"\r[{number}/{len(every)}] {curve}: {half}\033[K", err=True)


@main.command()
@click.argument("points", type=JOURNAL, required=False)
@_refuses
def fit(points: Path | None) -> None:
    """Fit the law to POINTS, or to the committed ones, and write both data files of the package."""
    if points is None:
        head, found = committed_points()
    else:
        head, lines = read_lines(points, points.read_text(encoding="utf-8").splitlines())
        found = by_curve(lines.values())

    def progress(curve: BlerCurve) -> None:
        click.echo(f"\r{curve}\033[K", nl=False, err=True)

    law = law_of(head, found, progress)
    folder = Path(__file__).parent.parent / "phy"
    write(folder, head, found, law)
    click.echo(f"\r{len(law['rows'])} rows in {folder}\033[K", err=True)


if __name__ == "__main__":
    main(prog_name="python -m channel.calibration")
