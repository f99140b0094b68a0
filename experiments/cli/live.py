"""`splitfl channel emulate` and `splitfl channel proxy`: any program over the emulated link. Thin."""

import sys
from pathlib import Path

import click

from experiments.cli.exits import reports_errors

_WAYS = (
    click.option(
        "--rate", "rate_bps", type=float, default=0.0, help="Bits a second, each way (0: no limit)."
    ),
    click.option("--delay", "delay_s", type=float, default=0.0, help="Seconds, each way."),
)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option(
    "--scenario", default="", help="A name of `splitfl channel list`, or a .toml file, for the link."
)
@click.option("--trace", type=click.Path(path_type=Path), help="A recording: mahimahi's, .csv, .tsv or .npz.")
@_WAYS[0]
@_WAYS[1]
@click.option("--loss", "loss_rate", type=float, default=0.0, help="Probability that a packet is lost.")
@click.option("--jitter", "jitter_s", type=float, default=0.0, help="Up to so many seconds more, at random.")
@click.option("--reorder", is_flag=True, help="Let packets overtake each other.")
@click.option("--queue", "queue_bytes", type=int, default=500_000, show_default=True, help="Bytes that wait.")
@click.option("--congestion", default="reno", show_default=True, help="TCP's congestion control.")
@click.option("--far", default="", metavar="COMMAND", help="Run this at the far end meanwhile, by a shell.")
@click.option("--seed", type=int, default=0, show_default=True)
@reports_errors
def emulate(
    command: tuple[str, ...],
    scenario: str,
    trace: Path | None,
    rate_bps: float,
    delay_s: float,
    loss_rate: float,
    jitter_s: float,
    reorder: bool,
    queue_bytes: int,
    congestion: str,
    far: str,
    seed: int,
) -> None:
    """Run COMMAND (default: a shell) at a client's end of an emulated link, on real packets. Needs root.

    The far end is 10.77.0.1, and so is $SPLITFL_FAR; no other network is there. For example

        splitfl channel emulate --rate 20e6 --delay 0.005 --far "iperf3 -s" -- iperf3 -c 10.77.0.1
    """
    from experiments.live import commands as live_commands

    air = live_commands.air_of(scenario, trace, rate_bps, delay_s, loss_rate, seed)
    code = live_commands.emulate(
        air,
        seed=seed,
        jitter_s=jitter_s,
        in_order=not reorder,
        queue_bytes=queue_bytes,
        congestion=congestion,
        command=list(command),
        far=far,
    )
    sys.exit(code)


@click.command()
@click.argument("target", metavar="HOST:PORT")
@click.option("--listen", default="127.0.0.1:0", show_default=True, metavar="HOST:PORT", help="0: any port.")
@_WAYS[0]
@_WAYS[1]
@reports_errors
def proxy(target: str, listen: str, rate_bps: float, delay_s: float) -> None:
    """Slow one TCP port down without root: rate and delay only, no loss.

    Clients connect here instead of to HOST:PORT. PyTorch RPC opens further ports and goes round it.
    """
    from experiments.live import commands as live_commands

    live_commands.proxy(target, listen, rate_bps, delay_s)
