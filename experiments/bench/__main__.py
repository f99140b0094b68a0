"""`python -m experiments.bench` prints every figure beside what it ought to be."""

import os
from pathlib import Path

import click

from experiments.cli.exits import reports_errors


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--only", multiple=True, metavar="NAME", help="Run this benchmark alone; may be given again.")
@click.option("--quick", is_flag=True, help="One sweep, and no figures without a target: about a minute.")
@click.option(
    "--json", "as_json", type=click.Path(path_type=Path), help="Write the figures to this file too."
)
@click.option("--device", default="cpu", show_default=True, help="cpu or cuda[:N], for every side.")
@reports_errors
def main(only: tuple[str, ...], quick: bool, as_json: Path | None, device: str) -> None:
    """Measure the product beside the unsplit model and the bare split, within one run.

    Wants the machine to itself. A ratio is the median over pairs of neighbours in time.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from experiments.bench.suite import run_suite

    run_suite(only, is_quick=quick, device=device, as_json=as_json)


if __name__ == "__main__":
    main(prog_name="python -m experiments.bench")
