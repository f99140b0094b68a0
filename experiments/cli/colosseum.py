"""`splitfl testbed batch` and `batch-results`: slow imports are inside the commands."""

import sys
from pathlib import Path

import click

from experiments.cli.exits import DONE, FAILED, reports_errors
from experiments.cli.imports import without_collections
from experiments.cli.options import AS_JSON, DATA, NODES, SET, with_data

RULE = click.option(
    "rules",
    "--rule",
    multiple=True,
    metavar="NAME=VALUE",
    help="A limit of Colosseum on which its documentation contradicts itself, as image_name_length=32.",
)


@click.command()
@click.argument("preset")
@NODES
@SET
@DATA
@click.option("--image", required=True, metavar="NAME", help="The name of the nodes' image on Colosseum.")
@click.option("--duration", "duration_s", type=int, required=True, help="Seconds of one loop.")
@click.option("--name", help="The batch's name (default: the preset's).")
@click.option("--loops", type=int, default=1, show_default=True, help="How often the scenario is run.")
@click.option("gateways", "--gateway", multiple=True, metavar="NODE", help="A node connected to col0.")
@click.option(
    "--modem", default="", metavar="COMMAND", help="A command on each node that makes the radio carry IP."
)
@click.option(
    "--modem-start",
    default="boot",
    show_default=True,
    help="When the modem is started: boot, or start (of each loop).",
)
@click.option("--scenario-nodes", type=int, default=0, help="The RF scenario's nodes, if not known here.")
@RULE
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("colosseum"),
    show_default=True,
    help="The folder for batch/ and config/, as in the team's folder on Colosseum.",
)
@click.option("is_rehearsed", "--rehearse", is_flag=True, help="Also play the job on this machine (root).")
@click.option("--scenario", default="", help="Rehearsal: a scenario of `splitfl channel list`, or a file.")
@click.option("--rate", "rate_bps", type=float, default=0.0, help="Rehearsal: rate in bit/s (0: no limit).")
@click.option("--delay", "delay_s", type=float, default=0.0, help="Rehearsal: delay in seconds.")
@click.option("--loss", "loss_rate", type=float, default=0.0, help="Rehearsal: probability of packet loss.")
@AS_JSON
@reports_errors
def batch(
    preset: str,
    nodes: Path,
    overrides: tuple[str, ...],
    data: str | None,
    image: str,
    duration_s: int,
    name: str | None,
    loops: int,
    gateways: tuple[str, ...],
    modem: str,
    modem_start: str,
    scenario_nodes: int,
    rules: tuple[str, ...],
    out: Path,
    is_rehearsed: bool,
    scenario: str,
    rate_bps: float,
    delay_s: float,
    loss_rate: float,
    as_json: bool,
) -> None:
    """Write a Colosseum batch job that runs PRESET, and with --rehearse play it on this machine.

    The job's file goes to OUT/batch, one radio.conf for each node to OUT/config. A rehearsal uses these
    files with network namespaces and an emulated link, by default that of the RF scenario in the inventory,
    skips what Colosseum only waits for, and leaves its logs in OUT/rehearsal. The exit code is 1 if anything
    went wrong in it.
    """
    from testbed.colosseum.rules import parse_rules

    parsed = parse_rules(rules)
    with without_collections():
        from experiments.colosseum import batch as jobs
        from testbed.colosseum.batch_plan import BatchSettings

    settings = BatchSettings(
        name=name or jobs.default_name(preset),
        duration_s=duration_s,
        image=image,
        loops=loops,
        gateways=gateways,
        modem=modem,
        modem_start=modem_start,
        scenario_nodes=scenario_nodes,
        rules=parsed,
    )
    link = jobs.RehearsalLink(scenario=scenario, rate_bps=rate_bps, delay_s=delay_s, loss_rate=loss_rate)
    rehearsal = link if is_rehearsed else None
    is_good = jobs.batch(preset, with_data(overrides, data), nodes, settings, out, rehearsal, as_json)
    sys.exit(DONE if is_good else FAILED)


@click.command(name="batch-results")
@click.argument("folder", metavar="RESERVATION", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("runs/batch"),
    show_default=True,
    help="The folder for the merged run folders.",
)
@AS_JSON
@reports_errors
def batch_results(folder: Path, out: Path, as_json: bool) -> None:
    """Merge the logs of a batch job's nodes into one run folder for each loop.

    RESERVATION is a copy of /share/nas/TEAM/RESERVATION-ID from Colosseum's file proxy, or OUT/rehearsal.
    """
    from experiments.colosseum import batch as jobs

    jobs.show_results(folder, out, as_json)
