"""`splitfl doctor`: slow imports are inside the command."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.cli.exits import DONE, FAILED, reports_errors
from experiments.cli.options import AS_JSON
from splitfl.core.json_text import dumps

if TYPE_CHECKING:
    from testbed.doctor.examine import Examination

_COLOURS = {"ok": "green", "warning": "yellow", "bad": "red", "info": "default"}


@click.command()
@click.option(
    "--inventory",
    type=click.Path(path_type=Path),
    help="The inventory of the run's nodes, the server's included.",
)
@click.option(
    "--server", metavar="HOST:PORT", help="Check one server from this machine, without an inventory."
)
@click.option("--transport", help="Check only this one of `splitfl list transports`, or overlay.")
@AS_JSON
@reports_errors
def doctor(inventory: Path | None, server: str | None, transport: str | None, as_json: bool) -> None:
    """Check the machines and the network paths between them before a run, and report which transports work.

    The exit code is 0 if a transport works (or the one that --transport names), else 1.
    """
    from splitfl.config import one_of
    from splitfl.core.errors import ConfigError
    from testbed.doctor import examine
    from testbed.doctor.advice import names
    from testbed.inventory import load as inventories

    if transport is not None:
        one_of("--transport", transport, names())
    if inventory is not None and server is not None:
        raise ConfigError("--server cannot be combined with --inventory, which names the server")
    if inventory is not None:
        examined = examine.examine(inventories.load(inventory))
    elif server is not None:
        examined = examine.examine(inventories.of_address(server), is_server_known=False)
    else:
        examined = examine.Examination(findings=examine.examine_local(), advice=[])
    _show(examined, as_json)
    sys.exit(_code(examined, transport))


def _code(examined: "Examination", transport: str | None) -> int:
    if not examined.advice:
        return FAILED if any(finding.state == "bad" for finding in examined.findings) else DONE
    works = {advice.transport: advice.works for advice in examined.advice}
    return DONE if (works[transport] if transport else any(works.values())) else FAILED


def _show(examined: "Examination", as_json: bool) -> None:
    if as_json:
        report = {
            "findings": [vars(finding) for finding in examined.findings],
            "transports": [vars(advice) for advice in examined.advice],
            "use": examined.use,
        }
        click.echo(dumps(report, indent=2))
        return
    from rich.table import Table
    from rich.text import Text

    from splitfl.runtime.terminal import plain_console

    console = plain_console()
    table = Table("node", "check", "", "result")
    for finding in examined.findings:
        state = Text(finding.state, style=_COLOURS[finding.state])
        table.add_row(finding.node, finding.check, state, finding.detail)
    console.print(table)
    if not examined.advice:
        return
    table = Table("transport", "works", "why")
    for advice in examined.advice:
        works = Text("yes", style="green") if advice.works else Text("no", style="red")
        table.add_row(advice.transport, works, advice.why)
    console.print(table)
    console.print(f"use {examined.use}" if examined.use else "no transport works", style="bold")
