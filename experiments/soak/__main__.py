"""`python -m experiments.soak` breaks everything that can break, and says what held."""

import os
from pathlib import Path

import click

from experiments.cli.exits import reports_errors


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=1000, show_default=True)
@click.option("--clients", default=20, show_default=True)
@click.option("--kills", default=10, show_default=True, help="How often the server is killed.")
@click.option(
    "--deaths",
    type=int,
    help="How often clients are killed, always the same 30 % of them [default: a tenth of the rounds].",
)
@click.option(
    "--on-loss",
    type=click.Choice(["continue", "rollback"]),
    default="continue",
    show_default=True,
    help="Without the lost client, or all back to the last checkpoint.",
)
@click.option("--timeout", "timeout_s", default=6.0, show_default=True, help="Seconds of silence until lost.")
@click.option("--seed", default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="An empty or new folder.")
@reports_errors
def main(
    rounds: int,
    clients: int,
    kills: int,
    deaths: int | None,
    on_loss: str,
    timeout_s: float,
    seed: int,
    out: Path,
) -> None:
    """Run a federation whose processes are killed and whose messages come late, twice, out of order or cut.

    Server and clients are processes of this machine with gRPC between them. At the end the run must be, to
    the last bit, what one process simulates for the same absences; the exit code says whether all held.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from experiments.soak.command import soak
    from experiments.soak.plan import Plan

    plan = Plan(
        rounds=rounds,
        clients=clients,
        kills=kills,
        deaths=rounds // 10 if deaths is None else deaths,
        seed=seed,
        on_loss=on_loss,
        timeout_s=timeout_s,
    )
    soak(plan, out)


if __name__ == "__main__":
    main(prog_name="python -m experiments.soak")
