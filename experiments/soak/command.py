"""What the command does, once what it needs is imported."""

from dataclasses import asdict
from pathlib import Path

from rich.table import Table
from rich.text import Text

from experiments.cli.exits import FAILED, stop
from experiments.soak.findings import Finding, findings
from experiments.soak.plan import Plan
from experiments.soak.replay import replay, told
from experiments.soak.soak import Played, play, run_folder
from splitfl.core.errors import ConfigError
from splitfl.runtime.quiet import quiet
from splitfl.runtime.terminal import counting_bar, plain_console, working
from splitfl.server.absences import Schedule
from splitfl.server.run import write_json


def soak(plan: Plan, folder: Path) -> None:
    """Plays the plan in this folder, compares, and ends with exit code 1 where something did not hold."""
    quiet()
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} must be empty or new")
    folder.mkdir(parents=True, exist_ok=True)
    played = _play(plan, folder)
    table = {"plan": asdict(plan), "played": asdict(played)}
    write_json(folder / "soak.json", table)
    run = run_folder(folder)
    with working(plain_console(stderr=True), "simulating the same events in one process"):
        soaked = told(run)
        simulated = replay(run, Schedule.read(soaked.rows), folder / "simulated")
    found = findings(plan, folder, played, soaked, simulated)
    write_json(folder / "soak.json", table | {"findings": [asdict(one) for one in found]})
    plain_console().print(_table(plan, played, found))
    if failed := [one.name for one in found if not one.holds]:
        stop(f"this did not hold: {', '.join(failed)} (see {folder})", FAILED)


def _play(plan: Plan, folder: Path) -> Played:
    console = plain_console(stderr=True)
    with counting_bar(console, "soak", unit="{task.description}", transient=False) as progress:
        bar = progress.add_task("starting", total=plan.rounds)

        def on_round(rounds_done: int, played: Played) -> None:
            words = f"rounds; server killed {played.kills}, clients {played.deaths} times"
            progress.update(bar, completed=rounds_done, description=words)

        return play(plan, folder, on_round)


def _table(plan: Plan, played: Played, found: list[Finding]) -> Table:
    title = f"{plan.rounds} rounds, {plan.clients} clients, seed {plan.seed}: {played.wall_s:.0f} s"
    table = Table("what must hold", "", "what was found", title=title, title_justify="left")
    for one in found:
        table.add_row(
            one.name, Text("yes", style="green") if one.holds else Text("NO", style="red"), one.found
        )
    return table
