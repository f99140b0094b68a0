"""`splitfl testbed batch` and `batch-results`, imported when the command runs."""

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from channel.core.link import Link
from channel.scenario.load import Scenario
from experiments import presets
from experiments.live.commands import link_of
from experiments.live.figures import kept_up
from splitfl.core.json_text import dumps
from splitfl.runtime.terminal import plain_console, print_note
from splitfl.setup.experiment_file import as_dict
from testbed.colosseum.batch_plan import BatchSettings, plan_batch
from testbed.colosseum.conductor import Rehearsal
from testbed.colosseum.rehearse import rehearse
from testbed.colosseum.results import collect
from testbed.colosseum.rf_scenarios import emulated
from testbed.inventory.load import load
from testbed.namespaces import need_root


@dataclass(frozen=True, kw_only=True)
class RehearsalLink:
    """The emulated link of a rehearsal; without any of these, that of the job's RF scenario."""

    scenario: str = ""
    rate_bps: float = 0.0
    delay_s: float = 0.0
    loss_rate: float = 0.0

    def air(self, rf_scenario: int, clients: int) -> Link | Scenario:
        """The link. Raises ConfigError for options that exclude each other, and for unknown paths."""
        if not (self.scenario or self.rate_bps or self.delay_s or self.loss_rate):
            return emulated(rf_scenario, clients)
        return link_of(self.scenario, None, self.rate_bps, self.delay_s, self.loss_rate, seed=0)


def default_name(preset: str) -> str:
    """A batch's name after its preset, or its file."""
    return re.sub(r"[^A-Za-z0-9_-]", "-", Path(preset).stem)


def batch(
    preset: str,
    overrides: tuple[str, ...],
    inventory: Path,
    settings: BatchSettings,
    out: Path,
    rehearsal: RehearsalLink | None,
    as_json: bool,
) -> bool:
    """Writes the job's files, plays them if asked to; whether nothing went wrong."""
    _, config = presets.find(preset, overrides, print_note)
    nodes = load(inventory)
    plan = plan_batch(nodes, as_dict(config), settings)
    if rehearsal is not None:
        need_root("a rehearsal")
        air = rehearsal.air(nodes.scenario.id, len(nodes.nodes) - 1)
    paths = plan.write(out)
    found: dict[str, Any] = {"files": [str(path) for path in paths]}
    if not as_json:
        click.echo("\n".join(map(str, paths)))
    played = None
    if rehearsal is not None:
        shutil.rmtree(out / "rehearsal", ignore_errors=True)
        played, measured = _rehearse(settings, out, air)
        found["rehearsal"] = {**asdict(played), "live": measured}
        if not as_json:
            _show_rehearsal(played)
            plain_console().print(kept_up(measured))
            click.echo(f"the nodes' logs are in {out / 'rehearsal'}")
    if as_json:
        click.echo(dumps(found, indent=2))
    return played is None or not played.problems


def show_results(folder: Path, out: Path, as_json: bool) -> None:
    """Merges the logs of a reservation, and prints a row for each node and loop."""
    rows = [
        {"node": logs.conf.node, "role": logs.conf.role, "loop": loop, "exit_status": logs.exit_status(loop)}
        for logs in collect(folder, out)
        for loop in sorted(logs.loops)
    ]
    if as_json:
        click.echo(dumps({"folder": str(out), "nodes": rows}, indent=2))
        return
    table = Table("node", "role", "loop", "exit status of its run")
    for row in rows:
        table.add_row(*(str("it did not end" if value is None else value) for value in row.values()))
    plain_console().print(table)
    click.echo(out)


def _rehearse(settings: BatchSettings, out: Path, air: Link | Scenario) -> tuple[Rehearsal, dict[str, Any]]:
    return rehearse(
        out,
        settings.name,
        air,
        out / "rehearsal",
        rules=settings.rules,
        scenario_nodes=settings.scenario_nodes,
        report=lambda text: click.echo(text, err=True),
    )


def _show_rehearsal(played: Rehearsal) -> None:
    console = plain_console()
    table = Table("node", "READY after", "exit status of each loop", "slowest script")
    for node in played.nodes:
        ready = "never" if node.ready_s is None else f"{node.ready_s:.1f} s"
        codes = ", ".join("still running" if code is None else str(code) for code in node.exit_statuses)
        table.add_row(node.node, ready, codes, f"{node.slowest.script}.sh, {node.slowest.took_s:.2f} s")
    console.print(table)
    for number, took_s in enumerate(played.loops_s, 1):
        console.print(f"loop {number}: {took_s:.1f} s from start.sh to stop.sh")
    for problem in played.problems:
        console.print(problem, style="red")
