"""A comparison of runs that exist."""

from pathlib import Path

import click
from rich.table import Table

from experiments.report import write_comparison
from splitfl.core.json_text import dumps
from splitfl.core.metrics import JUDGES
from splitfl.core.quantities import metric_text
from splitfl.run_folder.read import read_run
from splitfl.runtime.terminal import plain_console


def compare_runs(folders: list[Path], out: Path, as_json: bool) -> None:
    """The command `compare` of runs that exist: a table, and a page with plots."""
    rows = [{"run": read.name, **vars(read.summary)} for read in map(read_run, folders)]
    page = write_comparison(folders, out)
    if as_json:
        click.echo(dumps([{**row, "final": dict(row["final"])} for row in rows], indent=2))
        return
    columns = ("run", "status", "method", "rounds", "bytes_up", "bytes_down", "airtime_s", "wall_s")
    table = Table(*columns, "measured")
    for row in rows:
        final = row["final"]
        table.add_row(
            *(str(row[name]) for name in columns),
            next((metric_text(name, final[name]) for name in JUDGES if name in final), ""),
        )
    console = plain_console()
    console.print(table)
    console.print(str(page), soft_wrap=True)
