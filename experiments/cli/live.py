"""`splitfl channel emulate` and `splitfl channel proxy`: any program over the emulated link."""

import sys
from pathlib import Path

import click

from experiments.cli.exits import reports_errors

_DIRECTION = (
    click.option(
        "--rate", "rate_bps", type=float, default=0.0, help="Rate in bit/s, each direction (0: no limit)."
    ),
    click.option("--delay", "delay_s", type=float, default=0.0, help="Delay in seconds, each direction."),
)


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--scenario", default="", help="The link: a name of `splitfl channel list`, or a .toml file.")
@click.option(
    "--trace", type=click.Path(path_type=Path), help="A recorded trace: mahimahi, .csv, .tsv or .npz."
)
@_DIRECTION[0]
@_DIRECTION[1]
@click.option("--loss", "loss_rate", type=float, default=0.0, help="Probability that a packet is lost.")
@click.option("--jitter", "jitter_s", type=float, default=0.0, help="Maximum random extra delay in seconds.")
@click.option("--reorder", is_flag=True, help="Allow packet reordering.")
@click.option(
    "--queue", "queue_bytes", type=int, default=500_000, show_default=True, help="Queue size in bytes."
)
@click.option("--congestion", default="reno", show_default=True, help="TCP's congestion control.")
@click.option("--far", default="", metavar="COMMAND", help="A shell command to run at the far end meanwhile.")
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
    """Run COMMAND (default: a shell) at the client's end of an emulated link with real packets. Needs root.

    The far end is 10.77.0.1 (also in $SPLITFL_FAR); no other network is reachable. For example

        splitfl channel emulate --rate 20e6 --delay 0.005 --far "iperf3 -s" -- iperf3 -c 10.77.0.1
    """
    from experiments.live import commands as live_commands

    link = live_commands.link_of(scenario, trace, rate_bps, delay_s, loss_rate, seed)
    code = live_commands.emulate(
        link,
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
@_DIRECTION[0]
@_DIRECTION[1]
@reports_errors
def proxy(target: str, listen: str, rate_bps: float, delay_s: float) -> None:
    """Limit the rate of one TCP port and delay it, without root and without loss.

    Clients connect to the proxy instead of HOST:PORT. PyTorch RPC opens further ports, which bypass it.
    """
    from experiments.live import commands as live_commands

    live_commands.proxy(target, listen, rate_bps, delay_s)
