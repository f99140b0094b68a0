"""`splitfl channel air`: the options' meaning, the running server on the screen, and its table."""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any, get_type_hints

import click
from rich import box
from rich.table import Table

from channel.core.errors import BadParameter
from channel.iq.air_report import AirReport
from channel.iq.from_scenario import iq_channel_of
from channel.iq.front_end import FrontEnd
from channel.iq.ports import Air, PortSettings, device_arguments, gnuradio_blocks
from channel.scenario.load import Scenario, changed, load
from experiments.signals import handling
from splitfl.runtime.terminal import plain_console, spinner

_EVERY_S = 0.5


def chosen_scenario(name: str, *, nodes: int | None, users: int | None, seed: int | None) -> Scenario:
    """The scenario with its first users. Raises BadParameter unless it has a user for every node but one."""
    scenario = load(name)
    had = scenario.place.users
    if users is not None:
        if users > had:
            raise BadParameter(f"--users must be at most the {had} of {name}, got {users}")
        scenario = changed(scenario, {"place": {"users": users}})
    found = scenario.place.users
    if nodes is not None and nodes != found + 1:
        hint = f", or --users {nodes - 1} for the first ones" if nodes <= had else ""
        raise BadParameter(f"--nodes must be {found + 1} for {found} users of {name}, got {nodes}{hint}")
    return scenario if seed is None else replace(scenario, seed=seed)


def ports(
    port: int,
    host: str,
    node_hosts: Sequence[str],
    timeout_s: float,
    *,
    is_real_time: bool,
    sample_format: str = "fc32",
) -> PortSettings:
    """The settings of the server. Raises BadParameter for a --node-host that is not NODE=ADDRESS."""
    hosts = {}
    for given in node_hosts:
        node, _, address = given.partition("=")
        if not (node.isdecimal() and address):
            raise BadParameter(f"--node-host must be NODE=ADDRESS, got {given!r}")
        hosts[int(node)] = address
    return PortSettings(
        port=port,
        host=host,
        timeout_s=timeout_s,
        is_real_time=is_real_time,
        node_hosts=hosts,
        sample_format=sample_format,
    )


def front_ends(nodes: int, impairments: Sequence[str]) -> list[FrontEnd]:
    """One per node. Raises BadParameter for an unknown node or key, and values out of range."""
    made = [FrontEnd() for _ in range(nodes)]
    types = get_type_hints(FrontEnd)
    for given in impairments:
        place, _, text = given.partition("=")
        node, _, key = place.partition(".")
        if key not in types or not text or not (node == "*" or (node.isdecimal() and int(node) < nodes)):
            known = ", ".join(one.name for one in fields(FrontEnd))
            raise BadParameter(
                f"--front-end must be NODE.KEY=VALUE with a node of 0 to {nodes - 1} or *, "
                f"and a key of {known}; got {given!r}"
            )
        value = _value(types[key], text, given)
        for one in range(nodes) if node == "*" else [int(node)]:
            made[one] = replace(made[one], **{key: value})
    return made


def _value(kind: Any, text: str, given: str) -> Any:
    if kind is bool:
        if text not in ("true", "false"):
            raise BadParameter(f"--front-end must have true or false there, got {given!r}")
        return text == "true"
    try:
        return int(text) if kind is int else float(text)
    except ValueError:
        raise BadParameter(f"--front-end must have a number there, got {given!r}") from None


def serve(
    scenario: Scenario,
    settings: PortSettings,
    *,
    rate_hz: float,
    front_ends: Sequence[FrontEnd],
    hold_s: float | None,
    leak_db: float | None,
    guard: int,
    program: str | None,
    seconds: float | None,
) -> None:
    """Serves until a signal or for `seconds` of samples; the table goes to standard output."""
    console = plain_console(stderr=True)
    channel = iq_channel_of(
        scenario, rate_hz=rate_hz, front_ends=front_ends, hold_s=hold_s, leak_db=leak_db, guard=guard
    )
    stopped: list[int] = []
    with (
        Air(channel, settings, tell=console.print) as air,
        handling(lambda number, frame: stopped.append(number)),
    ):
        for line in _lines(settings, channel.nodes, rate_hz, program):
            click.echo(line)
        levels = ", ".join(f"{level:g}" for level in channel.full_scale_dbm_N)
        console.print(f"magnitude 1 is received at {levels} dBm; delayed by {channel.latency} samples")
        console.print(f"{channel.nodes} nodes at {rate_hz:g} samples/s: ready, Ctrl-C ends")
        with spinner(console, "no samples yet") as shown:
            next_s = 0.0

            def progress(report: AirReport) -> None:
                nonlocal next_s
                if report.wall_s >= next_s:
                    next_s = report.wall_s + _EVERY_S
                    shown.update(progress_line(report))

            report = air.run(stop=lambda: bool(stopped), seconds=seconds, progress=progress)
    plain_console().print(table(report))
    click.echo(verdict(report))


def progress_line(report: AirReport) -> str:
    """Samples, rate and slips so far."""
    msps = report.samples / report.wall_s / 1e6 if report.wall_s else 0.0
    return (
        f"{report.samples:,} samples, {report.seconds:.1f} s of the channel, {msps:.2f} Msps, "
        f"slipped {report.slips.slipped_s:.2f} s"
    )


def table(report: AirReport) -> Table:
    """Samples by node."""
    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    shown.add_column("node")
    for heading in ("sent", "zeros instead", "received", "dropped", "times lost"):
        shown.add_column(heading, justify="right")
    for node, counts in enumerate(report.ports):
        numbers = (counts.sent, counts.zeros, counts.received, counts.dropped, counts.losses)
        shown.add_row(str(node), *(f"{number:,}" for number in numbers))
    return shown


def verdict(report: AirReport) -> str:
    """A sentence on time."""
    slips = report.slips
    if not slips.late_blocks:
        return f"{progress_line(report)}."
    real = "" if report.is_in_real_time else "NOT in real time: "
    return (
        f"{real}{progress_line(report)} in {slips.late_blocks:,} late blocks, "
        f"{slips.worst_late_s:.3f} s at most."
    )


def _lines(settings: PortSettings, nodes: int, rate_hz: float, program: str | None) -> Iterator[str]:
    for node in range(nodes):
        if program == "srsran":
            yield f"# node {node}, {'base station' if node == 0 else 'user'}: gain 0"
            yield f'--rf.device_name=zmq --rf.device_args="{device_arguments(settings, node, rate_hz)}"'
        elif program == "gnuradio":
            yield f"# node {node}, {'base station' if node == 0 else 'user'}"
            yield gnuradio_blocks(settings, node)
