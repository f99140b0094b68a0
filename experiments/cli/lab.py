"""`splitfl lab`: slow imports are inside the commands."""

import click

from experiments.cli.exits import reports_errors
from splitfl.core.json_text import dumps

_LAB = click.option(
    "--lab", "name", default="lab", show_default=True, help="The lab's name, if several are up."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def lab() -> None:
    """Run a network like Colosseum's on this machine: radio nodes, a server, a firewall. Needs root."""


@lab.command()
@click.argument("plan", default="colosseum-firewall", metavar="[PLAN]")
@_LAB
@reports_errors
def up(plan: str, name: str) -> None:
    """Set up a lab that runs until `down`: open, colosseum-firewall, broker-only, or a .toml file."""
    from testbed.lab import control

    made = control.up(plan, name)
    for node, address in made.addresses.items():
        click.echo(f"{node:12} {address}")


@lab.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@_LAB
@click.argument("node")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@reports_errors
def run(name: str, node: str, command: tuple[str, ...]) -> None:
    """Run COMMAND in a node, as in `splitfl lab run srn2 -- ping gpu`; returns its exit code."""
    from testbed.lab import control

    control.become(node, name, command[1:] if command[0] == "--" else command)


@lab.command()
@_LAB
@reports_errors
def down(name: str) -> None:
    """Remove a lab and kill all processes in it."""
    from testbed.lab import control

    control.down(name)


@lab.command()
@click.option("as_json", "--json", is_flag=True, help="Print JSON for a script instead of a table.")
@reports_errors
def status(as_json: bool) -> None:
    """Show the labs that are up; remove the leftovers of killed ones, and report that."""
    from testbed.lab import control

    rows = control.status()
    if as_json:
        click.echo(dumps(rows, indent=2))
        return
    for row in rows:
        nodes = ", ".join(f"{node} {address}" for node, address in row["nodes"].items())
        state = "up" if row["is_up"] else "was killed; its leftovers are removed"
        click.echo(f"{row['name']} ({row['plan']}): {state}; {nodes}")
    if not rows:
        click.echo("no lab is up")
