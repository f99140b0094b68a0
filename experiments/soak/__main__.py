"""`python -m experiments.soak` injects faults into a run and checks invariants."""

import os
from pathlib import Path

import click

from experiments.cli.exits import reports_errors


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--rounds", default=1000, show_default=True)
@click.option("--clients", default=20, show_default=True)
@click.option("--kills", default=10, show_default=True, help="Number of server kills.")
@click.option(
    "--deaths",
    type=int,
    help="Number of client kills, among a fixed 30 % of the clients [default: a tenth of the rounds].",
)
@click.option(
    "--on-loss",
    type=click.Choice(["continue", "rollback"]),
    default="continue",
    show_default=True,
    help="Continue without a lost client, or roll all back to the last checkpoint.",
)
@click.option(
    "--timeout",
    "timeout_s",
    default=6.0,
    show_default=True,
    help="Seconds without a sign of life until a peer is lost.",
)
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
    """Run a federation with killed processes and with delayed, duplicated, reordered and truncated messages.

    Server and clients are processes of this machine, connected by gRPC. The result must equal, bit for bit,
    that of one process that simulates the same absences; the exit code is 1 if any invariant fails.
    """
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")
    from experiments.soak.command import soak
    from experiments.soak.plan import SoakPlan

    plan = SoakPlan(
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
