"""The soak command's implementation, imported when it runs."""

from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from experiments.cli.exits import FAILED, stop
from experiments.soak.findings import Invariant, findings
from experiments.soak.plan import SoakPlan
from experiments.soak.replay import output_of, replay
from experiments.soak.soak import SoakRecord, play, run_folder
from splitfl.core.errors import ConfigError
from splitfl.runtime.quiet import quiet
from splitfl.runtime.terminal import counting_bar, plain_console, spinner
from splitfl.server.absences import Schedule
from splitfl.server.run import write_json


def soak(plan: SoakPlan, folder: Path) -> None:
    """Runs the plan in this folder and checks the invariants; exits with code 1 if any fails."""
    quiet()
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} must be empty or new")
    folder.mkdir(parents=True, exist_ok=True)
    record = _play(plan, folder)
    table = {"plan": asdict(plan), "played": asdict(record)}
    write_json(folder / "soak.json", table)
    run = run_folder(folder)
    with spinner(plain_console(stderr=True), "simulating the same events in one process"):
        soaked = output_of(run)
        simulated = replay(run, Schedule.read(soaked.rows), folder / "simulated")
    found = findings(plan, folder, record, soaked, simulated)
    write_json(folder / "soak.json", table | {"findings": [asdict(one) for one in found]})
    plain_console().print(_table(plan, record, found))
    if failed := [one.name for one in found if not one.holds]:
        stop(f"invariants failed: {', '.join(failed)} (see {folder})", FAILED)


def _play(plan: SoakPlan, folder: Path) -> SoakRecord:
    console = plain_console(stderr=True)
    with counting_bar(console, "soak", unit="{task.description}", transient=False) as progress:
        bar = progress.add_task("starting", total=plan.rounds)

        def on_round(rounds_done: int, record: SoakRecord) -> None:
            description = f"rounds; server killed {record.kills}, clients {record.deaths} times"
            progress.update(bar, completed=rounds_done, description=description)

        return play(plan, folder, on_round)


def _table(plan: SoakPlan, record: SoakRecord, found: list[Invariant]) -> Table:
    title = f"{plan.rounds} rounds, {plan.clients} clients, seed {plan.seed}: {record.wall_s:.0f} s"
    table = Table("invariant", "", "result", title=title, title_justify="left")
    for one in found:
        table.add_row(
            one.name, Text("yes", style="green") if one.holds else Text("NO", style="red"), one.found
        )
    return table
