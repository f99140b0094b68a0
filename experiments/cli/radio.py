"""`splitfl radio`: slow imports are inside the commands."""

from pathlib import Path

import click

from experiments.cli.exits import reports_errors


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def radio() -> None:
    """Carry IP and packets over radios, real or emulated."""


@radio.command()
@click.argument("settings", type=click.Path(path_type=Path))
@click.option(
    "--namespace",
    "name",
    metavar="NAME",
    help="Make the interface in this network namespace, one of splitfl's (default: in that of the caller).",
)
@click.option("--transmit", "transmits", is_flag=True, help="Send over the air, with radio hardware.")
@reports_errors
def bridge(settings: Path, name: str | None, transmits: bool) -> None:
    """Carry IP between a new network interface and a radio, until interrupted. Needs root.

    SETTINGS is a TOML file with the tables [bridge] and [radio]. Prints READY with the interface once the
    modem has decoded a packet of its own; then every IP program can use the addresses of the other nodes.
    """
    from channel.coding.extra import require_numba

    require_numba("the packet modem")
    from experiments.live import bridge as bridging

    bridging.run(settings, name, transmits=transmits)
