"""`splitfl radio bridge`, imported when the command runs."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, nullcontext, suppress
from pathlib import Path
from types import FrameType
from typing import Any

import click
from rich import box
from rich.table import Table

from experiments.signals import handling
from splitfl.core.quantities import bytes_text
from splitfl.runtime.terminal import plain_console
from testbed.namespaces import Namespace
from testbed.overlay.tun import Tun
from testbed.radio import bridge_settings
from testbed.radio.bridge import Bridge
from testbed.radio.link_monitor import sentence, trouble
from testbed.radio.modem import PacketModem


def run(path: Path, namespace: str | None, *, transmits: bool = False) -> None:
    """Carries packets until SIGINT or SIGTERM, then prints a table of what it has counted.

    A radio that sends over the air needs `transmits`. Raises ConfigError for invalid settings, and without
    root or TUN.
    """
    settings = bridge_settings.read(path)
    own, console = settings.bridge, plain_console(stderr=True)
    with ExitStack() as stack:
        with Namespace.attach(namespace).inside() if namespace else nullcontext():
            tun = stack.enter_context(Tun(own.address, own.mtu))
        record = stack.enter_context(open(own.record or os.devnull, "w", encoding="utf-8"))
        radio = stack.enter_context(closing(settings.open_radio(_announce if transmits else None)))
        modem = PacketModem(radio, own.modem, node=own.node, slots=own.table())
        modem.check()
        click.echo(f"READY {own.address} on {tun.name}")
        bridge = Bridge(own, modem, tun)

        def show(row: dict[str, Any]) -> None:
            console.print(sentence(row), soft_wrap=True)
            print(json.dumps(row), file=record, flush=True)

        with _until_signal():
            bridge.run(show)
        final = bridge.final()
        print(json.dumps({"final": final}), file=record, flush=True)
    plain_console().print(table(final))
    if what := trouble(final):
        click.echo(what)


def table(final: dict[str, Any]) -> Table:
    """The counts of a bridge by far node."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("node")
    headings = (
        "heard",
        "with errors",
        "mean SNR",
        "delivered",
        "sent",
        "retransmitted",
        "given up",
        "dropped",
    )
    for heading in headings:
        shown.add_column(heading, justify="right")
    for node, far in final["nodes"].items():
        snr = "-" if far["snr_db"] is None else f"{far['snr_db']:.1f} dB"
        arq = far["arq"]
        counts = (arq["sent"], arq["retransmissions"], arq["given_up"], arq["dropped"])
        heard = (f"{far['packets']:,}", f"{far['bad']:,}", snr, bytes_text(far["delivered_bytes"]))
        shown.add_row(node, *heard, *(f"{count:,}" for count in counts))
    return shown


def _announce(what: str) -> None:
    click.echo(what, err=True)


class _Signal(Exception):
    """SIGINT or SIGTERM came."""


@contextmanager
def _until_signal() -> Iterator[None]:
    """Ends the context at SIGINT or SIGTERM, also while it waits for samples."""

    def end(number: int, frame: FrameType | None) -> None:
        for one in (signal.SIGINT, signal.SIGTERM):
            signal.signal(one, signal.SIG_IGN)
        raise _Signal

    with handling(end), suppress(_Signal):
        yield
