"""`splitfl compare --methods` and `splitfl plan`, imported when the command runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from markupsafe import Markup
from rich.console import Console
from rich.table import Table
from rich.text import Text

from experiments import presets
from experiments.channel.recordings import link_lines
from experiments.compare import at_budget, bytes_to_target, plots
from experiments.compare.at_budget import check_spendable, within
from experiments.compare.bytes_to_target import reached
from experiments.compare.standings_table import (
    as_json,
    as_table,
    attacks_in,
    leaked_text,
    metric_with_margin,
)
from experiments.report.drawing import house_style
from experiments.report.pages import render
from experiments.report.panels import METRIC_LABELS
from experiments.report.writing import write_whole
from experiments.screen import print_data
from splitfl.comparison.budget import Budget, parse_budget
from splitfl.comparison.entrants import (
    Entrant,
    Excluded,
    as_rows,
    check_any,
    enter_all,
    labels_of,
    settings_by_label,
)
from splitfl.comparison.planned_costs import planned_costs
from splitfl.comparison.ranking import Standing, standings
from splitfl.comparison.runs import Backend, SeedRun, run_all, seed_runs
from splitfl.core.errors import PeerLost
from splitfl.core.json_text import dumps
from splitfl.core.quantities import bytes_text, flops_text, scaled, seconds_text
from splitfl.methods.settings import refuse_unread
from splitfl.runtime.terminal import counting_bar, plain_console, print_note, spinner
from splitfl.setup.codecs import codecs_of_varying_size
from splitfl.setup.experiment import Experiment


def compare(
    preset: str,
    methods: str,
    overrides: Sequence[str],
    own: Sequence[str],
    budgets: Sequence[str],
    seeds: int,
    backend: Backend,
    max_rounds: int | None,
    out: Path,
    as_json_too: bool,
    until: float | None = None,
    at: str | None = None,
) -> None:
    """See the command `compare`."""
    console = plain_console(stderr=True)
    bounds = [parse_budget(text) for text in budgets]
    amount = parse_budget(at) if at is not None else None
    if amount is not None:
        check_spendable(amount)
    entrants, excluded = _enter(
        console,
        preset,
        methods,
        overrides,
        own,
        bounds,
        max_rounds,
        every_round=until is not None or at is not None,
    )
    check_any(entrants, excluded, "take part")
    name, config = presets.find(preset, overrides, for_several=True)
    print_data(console, Experiment.of(entrants[0].config))
    numbers = range(config.train.seed, config.train.seed + seeds)
    out = out / f"compare-{name}"
    todo = seed_runs(entrants, numbers, out)
    failed = _run(console, todo, backend)
    found = standings(entrants, todo)
    if not found:
        raise PeerLost(f"every run failed; the first error is: {next(iter(failed.values()))}")
    page = _write(out, found, todo, entrants, excluded, name, bounds)
    metric = found[0].metric
    more: list[Table] = []
    extra: dict[str, Any] = {}
    if until is not None:
        rows = reached(found, todo, until)
        more.append(bytes_to_target.as_table(rows, metric, until))
        extra["reached"] = bytes_to_target.as_json(rows)
    if amount is not None:
        spent = within(found, todo, amount)
        more.append(at_budget.as_table(spent, metric, amount))
        extra["within"] = at_budget.as_json(spent)
    _show(found, excluded, failed, page, as_json_too, more, extra)


def plan(
    preset: str, methods: str | None, overrides: Sequence[str], own: Sequence[str], as_json_too: bool
) -> None:
    """See the command `plan`."""
    console = plain_console(stderr=True)
    if methods is None:
        _, config = presets.find(preset, overrides, print_note)
        refuse_unread(config)
        methods = config.method.name
    entrants, excluded = _enter(console, preset, methods, overrides, own, [], None, alone=True)
    if entrants:
        print_data(console, Experiment.of(entrants[0].config))
    for line in link_lines(entrants[0].config) if entrants else ():
        console.print(line, soft_wrap=True)
    for entrant in entrants:
        if entrant.config.auto.speed == "measured":
            console.print(
                f"{entrant.label}: auto.speed = 'measured' needs a run; the plan uses declared speeds",
                style="yellow",
                soft_wrap=True,
            )
        if varying := codecs_of_varying_size(entrant.config):
            console.print(
                f"{entrant.label}: bytes are estimated: messages of {', '.join(varying)} have no fixed size, "
                "and are taken to hold normal numbers",
                style="yellow",
                soft_wrap=True,
                markup=False,
            )
    rows = {entrant.label: planned_costs(entrant) for entrant in entrants}
    if as_json_too:
        click.echo(dumps({"planned": rows, "excluded": as_rows(excluded)}, indent=2))
    check_any(entrants, excluded, "run")
    if as_json_too:
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("whole run", no_wrap=True)
    for label in rows:
        table.add_column(label, justify="right", no_wrap=True)
    for name, show in _SHOWN.items():
        table.add_row(name.replace("_", " "), *(show(row[name]) for row in rows.values()))
    _wide().print(table)
    for one in excluded:
        console.print(f"{one.label} cannot run: {one.reason}", style="yellow", soft_wrap=True)


_SHOWN: Mapping[str, Callable[[Any], str]] = {
    "rounds": str,
    "bytes_up": bytes_text,
    "bytes_down": bytes_text,
    "bytes_up_a_client_and_round": bytes_text,
    "bytes_down_a_client_and_round": bytes_text,
    "packets": lambda count: f"{count:,}",
    "airtime_s": seconds_text,
    "radiated_j": lambda joules: scaled(joules, "J", prefixes=()),
    "virtual_s": seconds_text,
    "client_flops": flops_text,
    "server_flops": flops_text,
    "client_parameter_bytes": bytes_text,
    "client_gradient_bytes": bytes_text,
    "client_optimiser_bytes": bytes_text,
    "client_saved_bytes": bytes_text,
    "client_codec_bytes": bytes_text,
    "client_memory_bytes": bytes_text,
}


def _enter(
    console: Console,
    preset: str,
    methods: str,
    overrides: Sequence[str],
    own: Sequence[str],
    budgets: Sequence[Budget],
    max_rounds: int | None,
    *,
    alone: bool = False,
    every_round: bool = False,
) -> tuple[list[Entrant], list[Excluded]]:
    named = methods.split(",")
    labels = [label.strip() for label in named] if alone else labels_of(named)
    settings = settings_by_label(own, labels)
    _, tables = presets.tables(preset)
    with spinner(console, "") as status:

        def on_label(label: str) -> None:
            status.update(Text(f"dry run of {label}"))

        return enter_all(
            tables, overrides, settings, budgets, max_rounds, every_round=every_round, on_label=on_label
        )


def _run(console: Console, todo: Sequence[SeedRun], backend: Backend) -> dict[str, str]:
    """Runs all; the error message of each failed run."""
    failed: dict[str, str] = {}
    with counting_bar(console, "{task.description}", unit="runs") as bar:
        task = bar.add_task(backend.description, total=len(todo))

        def on_done(seed_run: SeedRun, reason: str | None) -> None:
            if reason is not None:
                failed[f"{seed_run.label}, seed {seed_run.seed}"] = reason
            bar.advance(task)
            line = f"  {seed_run.label}, seed {seed_run.seed}: {reason or 'done'}"
            bar.console.print(line, soft_wrap=True)

        run_all(todo, backend, on_done)
    return failed


def _write(
    out: Path,
    found: Sequence[Standing],
    runs: Sequence[SeedRun],
    entrants: Sequence[Entrant],
    excluded: Sequence[Excluded],
    preset: str,
    budgets: Sequence[Budget],
) -> Path:
    """Writes the table, the plots and the page."""
    spent = plots.spent_at_all(found)
    page = render(
        "contest.html.jinja",
        found=found,
        shown={one.label: metric_with_margin(one) for one in found},
        leaked={name: [leaked_text(one, name) for one in found] for name in attacks_in(found)},
        words=METRIC_LABELS[found[0].metric],
        preset=preset,
        budgets=[str(budget) for budget in budgets],
        seeds=sorted({seed_run.seed for seed_run in runs}),
        excluded=as_rows(excluded),
        adjusted={one.label: one.adjusted for one in entrants if one.adjusted},
        curves={what: Markup(plots.curves(found, runs, what)) for what in spent if what in plots.GROWING},
        fronts={what: Markup(plots.fronts(found, what)) for what in spent},
    )
    write_whole(out / "comparison.json", (dumps(as_json(found), indent=2) + "\n").encode())
    with house_style():
        plots.figure_of(found, runs).savefig(out / "comparison.png", dpi=144)
    return write_whole(out / "comparison.html", page.encode())


def _show(
    found: Sequence[Standing],
    excluded: Sequence[Excluded],
    failed: dict[str, str],
    page: Path,
    as_json_too: bool,
    more: Sequence[Table],
    extra: Mapping[str, Any],
) -> None:
    """Prints the standings, additional tables and failures; as JSON, `extra` has the tables' data."""
    if as_json_too:
        rows = {
            "standings": as_json(found),
            "excluded": as_rows(excluded),
            "failed": failed,
            "page": str(page),
            **extra,
        }
        click.echo(dumps(rows, indent=2))
        return
    console = _wide()
    console.print(as_table(found))
    for table in more:
        console.print()
        console.print(table)
    for label, reason in {**as_rows(excluded), **failed}.items():
        console.print(f"{label}: {reason}", style="yellow", soft_wrap=True)
    console.print(str(page), soft_wrap=True)


def _wide() -> Console:
    """A console as wide as the terminal, or wide enough for a whole table in a file or pipe."""
    console = plain_console()
    return console if console.is_terminal else plain_console(width=240)
