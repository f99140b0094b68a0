"""`python -m experiments.bench` prints every measured ratio beside its target."""

import os
import signal
import sys
from pathlib import Path

import click

from experiments.cli.exits import reports_errors


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, metavar="NAME", help="Run only this benchmark; may be repeated.")
@click.option("--quick", is_flag=True, help="One sweep, and no figures without a target: about a minute.")
@click.option(
    "--json", "as_json", type=click.Path(path_type=Path), help="Also write the results to this JSON file."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda[:N], for every contestant.")
@reports_errors
def main(only: tuple[str, ...], quick: bool, as_json: Path | None, device: str) -> None:
    """Compare the product with the unsplit model and a bare split in interleaved measurements.

    Needs an otherwise idle machine. A ratio is the median over pairs of adjacent measurements.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from experiments.bench.suite import run_suite

    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # the contestants end, too
    run_suite(only, is_quick=quick, device=device, as_json=as_json)


if __name__ == "__main__":
    main(prog_name="python -m experiments.bench")
