"""The commands' implementation, imported when a command runs."""

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import presets
from experiments.channel.recordings import link_lines
from experiments.citations import bibtex
from experiments.cli.exits import names_folder
from experiments.cli.preflight import served
from experiments.live.run import run_live
from experiments.local_clients import on_backend, serve_others
from experiments.screen import print_data, summary_table
from experiments.specifications import SPECIFICATIONS
from splitfl.config import RunConfig
from splitfl.controller.budget import resolved
from splitfl.core.checkpoint import CheckpointStore
from splitfl.core.errors import ConfigError
from splitfl.core.json_text import dumps
from splitfl.core.messages import Activation, Gradient, Message
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.evaluation.generate import Generator, Sampling
from splitfl.models import untrained as models
from splitfl.models.checkpoint.source import ALIASES
from splitfl.models.families import FAMILIES
from splitfl.parallel.launch import refuse_restart
from splitfl.run_folder import create as runs
from splitfl.run_folder import resume as resuming
from splitfl.runtime.join import join as take_part
from splitfl.runtime.message_times import MessageTimes
from splitfl.runtime.quiet import quiet
from splitfl.runtime.serve import Ended, NewFolder
from splitfl.runtime.server_side import follows
from splitfl.runtime.terminal import plain_console, print_note, spinner
from splitfl.runtime.terminal_screen import TerminalScreen
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import refuse_other, transport
from testbed.radio.tokens.on_demand import open_client_radio

Drive = Callable[..., Ended]
"""Runs an experiment; has the arguments of `run_here`."""


def run(
    preset: str,
    overrides: tuple[str, ...],
    out: Path,
    as_json: bool,
    *,
    live: bool = False,
    radio: str | None = None,
    on: str | None = None,
) -> None:
    """See the command of this name."""
    quiet()
    if follows():
        return
    name, config = presets.find(preset, overrides, print_note)
    drive = run_live if live else on_backend(on)
    if radio is not None:
        from experiments.live.radio_run import run_radio  # needs numba

        drive = partial(run_radio, name=radio)
    _drive(name, config, out, as_json, spawn=True, drive=drive)


def serve(
    preset: str, overrides: tuple[str, ...], out: Path, as_json: bool, message_times: Path | None
) -> None:
    """See the command of this name."""
    quiet()
    if follows():
        return
    name, config = presets.find(preset, overrides, print_note)
    times = MessageTimes(message_times) if message_times else None
    drive = partial(serve_others, times=times)
    _drive(name, served(config, overrides), out, as_json, spawn=False, drive=drive)


def join(
    name: str,
    joining: Joining,
    *,
    model: str | None,
    device: str | None,
    data: str | None,
    is_dealt: bool,
    state: Path | None,
    leaves: Mapping[int, int],
    message_times: Path | None,
) -> None:
    """See the command of this name."""
    quiet()
    client = joining.client
    console = plain_console(stderr=True)

    def adjust(config: RunConfig) -> RunConfig:
        refuse_other(config.transport, client, name)
        config = replace(config, model=replace(config.model, name=model)) if model else config
        config = replace(config, client=replace(config.client, device=device)) if device else config
        return replace(config, task=replace(config.task, data=data)) if data else config

    def on_begin(config: RunConfig) -> None:
        console.print(f"client {client}: {config.method.name} on {config.task.name}, loading")

    steps = 0

    def on_step(round_index: int, message: Message) -> None:
        nonlocal steps
        steps += isinstance(message, Activation)
        if not isinstance(message, Activation | Gradient):
            console.print(f"client {client}: round {round_index + 1}, {steps} batches sent")

    def on_disconnect(why: str) -> None:
        console.print(f"client {client}: {why}; reconnecting", soft_wrap=True)

    spec = transport(name)
    take_part(
        MessageTimes(message_times).joined(spec) if message_times else spec,
        joining,
        state=state,
        adjust=adjust,
        on_step=on_step,
        on_begin=on_begin,
        on_disconnect=on_disconnect,
        on_experiment=lambda experiment: print_data(
            console, experiment, tokens=data is not None, before=f"client {client}: "
        ),
        restart=_restart_process,
        leaves=leaves,
        owns_data=data is not None and not is_dealt,
        open_radio=open_client_radio,
    )
    console.print(f"client {client}: done")


def _restart_process() -> NoReturn:
    """Re-executes this process with the same arguments and pid, without open files or threads."""
    sys.stderr.flush()
    os.closerange(sys.stderr.fileno() + 1, os.sysconf("SC_OPEN_MAX"))
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def resume(folder: Path, as_json: bool, message_times: Path | None, *, on: str | None = None) -> None:
    """See the command of this name."""
    quiet()
    if follows():
        return
    found = resuming.stopped(folder)
    if found.spawn and message_times:
        raise ConfigError("--message-times is for runs of `splitfl serve`; this one was started by `run`")
    if on and not found.spawn:
        raise ConfigError("--on is for runs of `splitfl run`; this one was started by `serve`")
    console = plain_console(stderr=True)
    with spinner(console, "reading the data"):
        experiment = Experiment.of(found.config)
    print_data(console, experiment)
    rounds = CheckpointStore(folder / "checkpoint").rounds()
    where = f"round {rounds[-1] + 2}" if rounds else "the start"
    if rounds and found.config.link.scenario:
        where += ", after replaying all transmissions of its cell"
    console.print(f"{folder}: resuming from {where}", soft_wrap=True)
    times = MessageTimes(message_times) if message_times else None
    drive = on_backend(on) if found.spawn else partial(serve_others, times=times)
    _run(console, experiment, lambda: folder, as_json, spawn=found.spawn, drive=drive)


def evaluate(folder: Path, data: str | None, as_json: bool, *, with_rouge: bool) -> None:
    """See the command of this name."""
    quiet()
    config = load(folder / "config.json", [f"task.data={json.dumps(data)}"] if data else [])
    console = plain_console(stderr=True)
    with spinner(console, "reading the data"):
        experiment = Experiment.of_evaluation(config) if data else Experiment.of(config)
    print_data(console, experiment)
    with spinner(console, "measuring"):
        measured = measure_adapter(experiment, folder / "adapter", with_rouge=with_rouge)
    _show("measured", measured | {"samples": len(experiment.task.held_out)}, as_json)


def generate(folder: Path, prompts: Sequence[str], sampling: Sampling, as_json: bool) -> None:
    """See the command of this name."""
    quiet()
    config = load(folder / "config.json")
    console = plain_console(stderr=True)
    with spinner(console, "loading"):
        generator = Generator(config, folder, sampling)
    console.print(f"prompts through the template {generator.template!r}", soft_wrap=True)
    for prompt in prompts:
        with spinner(console, "generating"):
            text = generator.continued(prompt)
        click.echo(dumps({"prompt": prompt, "text": text}) if as_json else text)


def list_rows(what: str, as_json: bool) -> None:
    """See the command `list`."""
    match what:
        case "presets":
            rows = {name: presets.about(name) for name in presets.names()}
        case "models":
            aliases = {
                name: f"alias of {hub}, or of the package {package}"
                for name, (package, _, hub) in ALIASES.items()
            }
            rows = aliases | models.ABOUT
            rows |= {name: f"any model of this type: {', '.join(f.kinds)}" for name, f in FAMILIES.items()}
        case _:
            rows = {name: spec.about for name, spec in SPECIFICATIONS[what].items()}
    _show(what, rows, as_json)


def cite(preset: str, overrides: tuple[str, ...]) -> None:
    """See the command of this name."""
    _, config = presets.find(preset, overrides, print_note)
    click.echo(bibtex(config))


def _drive(name: str, config: RunConfig, out: Path, as_json: bool, *, spawn: bool, drive: Drive) -> None:
    refuse_restart()
    console = plain_console(stderr=True)
    console.print(
        f"{name}: {config.method.name}, {config.model.name} cut after block {config.partition.cut}, "
        f"{config.task.name}, {config.federation.clients} clients, {config.federation.rounds} rounds",
        soft_wrap=True,
    )
    if not spawn and (warning := transport(config.transport.name).warning(config.transport)):
        console.print(warning, style="yellow", soft_wrap=True)
    is_resolved = config.auto.budget == "none"
    with spinner(console, "reading the data" if is_resolved else "dry run of a round with each plan"):
        config = resolved(config)
        experiment = Experiment.of(config)
    for reason in (*link_lines(config), *config.auto.chosen):
        console.print(reason, soft_wrap=True)
    print_data(console, experiment)
    with runs.FolderOnDemand(out, name, experiment.config) as new_folder:
        _run(console, experiment, new_folder, as_json, spawn=spawn, drive=drive)


def _run(
    console: Console,
    experiment: Experiment,
    new_folder: NewFolder,
    as_json: bool,
    *,
    spawn: bool,
    drive: Drive,
) -> None:
    """Runs the experiment with a progress display, then writes its report."""
    made: list[Path] = []

    def noted() -> Path:
        made.append(new_folder())
        return made[-1]

    screen = TerminalScreen(console, experiment.config, experiment.total_steps(), invites=not spawn)
    with names_folder(lambda: made[-1] if made else None), screen:
        folder, summary = drive(experiment, new_folder=noted, screen=screen)
    from experiments.report import write_report  # imports matplotlib, which only the report needs

    with spinner(console, "writing the report") if console.is_terminal else nullcontext():
        write_report(folder)
    if as_json:
        click.echo(dumps({**summary, "folder": str(folder)}, indent=2))
    else:
        plain_console().print(summary_table(summary, folder))


def _show(title: str, rows: Mapping[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(dumps(dict(rows), indent=2))
        return
    table = Table(show_header=False, box=None, title=title, title_justify="left")
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), f"{value:.4f}" if isinstance(value, float) else str(value))
    plain_console().print(table)
