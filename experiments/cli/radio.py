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


@radio.command()
@click.argument("target", type=click.Path(path_type=Path))
@click.option("--seconds", type=float, default=2.0, show_default=True, help="Seconds of samples to hear.")
@click.option(
    "--fft-size", type=click.IntRange(min=64), help="Subcarriers of the packets (default: 64, or the file's)."
)
@click.option("--record", type=click.Path(path_type=Path), help="Write the samples and packets as SigMF.")
@click.option("--plot", "picture", type=click.Path(path_type=Path), help="Draw into this .png, .svg or .pdf.")
@reports_errors
def probe(
    target: Path, seconds: float, fft_size: int | None, record: Path | None, picture: Path | None
) -> None:
    """Say what a radio hears: level, SNR, offsets, losses, rate and packets. Never sends.

    TARGET is a TOML file with the table [radio], such as that of a bridge, or a recording (.sigmf-meta).
    Exits with 2 if something makes a link over this radio impossible.
    """
    from channel.coding.extra import require_numba

    require_numba("the packet modem")
    from experiments.live import probe as probing

    probing.run(target, seconds=seconds, fft_size=fft_size, record=record, picture=picture)
