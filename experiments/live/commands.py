"""`splitfl channel emulate` and `proxy`, imported when the command runs."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import click

from channel.core.errors import ChannelError
from channel.core.link import Link
from channel.links.fixed import Direction, FixedLink
from channel.links.trace import TraceLink, read_recording
from channel.live.emulation import Emulation
from channel.live.proxy import ONLY, ThrottlingProxy
from channel.live.switch import DeliveryOrder
from channel.scenario import load as scenarios
from channel.scenario.load import Scenario
from experiments.live.figures import kept_up, links_table
from splitfl.core.errors import ConfigError
from splitfl.runtime.terminal import plain_console
from splitfl.transport.base.addresses import joined, parse_address
from testbed.live import LiveLink

_FAR_STARTS_S = 0.5


def link_of(
    scenario: str, trace: Path | None, rate_bps: float, delay_s: float, loss_rate: float, seed: int
) -> Link | Scenario:
    """The link of these options; raises ConfigError if they describe more than one."""
    numbers = rate_bps or delay_s or loss_rate
    if sum(map(bool, (scenario, trace, numbers))) > 1:
        raise ConfigError("give one of --scenario, --trace, or --rate, --delay and --loss")
    with _as_bad_input():
        if scenario:
            return replace(scenarios.load(scenario), seed=seed)
        if trace is not None:
            recording = read_recording(trace)
            click.echo(f"{trace}: {recording.summary}", err=True)
            return TraceLink(seed=seed, up=recording, down=recording, max_tries=1)
        direction = Direction(rate_bps=rate_bps, delay_s=delay_s, loss_rate=loss_rate)
        return FixedLink(seed=seed, up=direction, down=direction, max_tries=1)


def emulate(
    link: Link | Scenario,
    *,
    seed: int,
    jitter_s: float,
    in_order: bool,
    queue_bytes: int,
    congestion: str,
    command: list[str],
    far: str,
) -> int:
    """Runs the command, prints the link's measurements, and returns the command's exit code."""
    console = plain_console(stderr=True)
    with _as_bad_input():
        order = DeliveryOrder(seed=seed, jitter_s=jitter_s, in_order=in_order)
        emulation = Emulation(air=link, clients=1, order=order, queue_bytes=queue_bytes)
    shell = os.environ.get("SHELL", "/bin/sh")
    with LiveLink(emulation, congestion) as live:
        near = {**os.environ, "SPLITFL_FAR": live.addresses[0]}
        with _running(live, far), _interrupts_ignored():
            code = live.clients[0].popen(command or [shell], env=near).wait()
        measured = live.finish()
    console.print(links_table(measured))
    console.print(kept_up(measured))
    return code


def proxy(target: str, listen: str, rate_bps: float, delay_s: float) -> None:
    """Serves until interrupted."""
    own_host, own_port = parse_address(listen, least_port=0, name="--listen")
    with _as_bad_input():
        direction = Direction(rate_bps=rate_bps, delay_s=delay_s)
        server = ThrottlingProxy(parse_address(target), direction, direction)

    def ready(host: str, port: int) -> None:
        click.echo(f"{joined(host, port)} forwards to {target}; {ONLY}", err=True)

    with suppress(KeyboardInterrupt):
        asyncio.run(server.serve(own_host, own_port, ready))


@contextmanager
def _as_bad_input() -> Iterator[None]:
    try:
        yield
    except ChannelError as error:
        raise ConfigError(str(error)) from None


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignores Ctrl-C in this process but not in the command, which does not inherit a handler."""
    before = signal.signal(signal.SIGINT, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _running(live: LiveLink, far: str) -> Iterator[None]:
    """Runs the far end's command in the context; raises ConfigError if it exits at once."""
    if not far:
        yield
        return
    process = live.server.popen(["sh", "-c", far], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        code = process.wait(_FAR_STARTS_S)
    except subprocess.TimeoutExpired:
        yield
        process.terminate()
        process.wait()
        return
    raise ConfigError(f"--far command {far!r} exited at once with exit code {code}")
