"""`splitfl testbed scenario`: slow imports are inside the commands."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from experiments.cli.exits import reports_errors
from experiments.cli.options import AS_JSON, NODES
from splitfl.core.json_text import dumps

if TYPE_CHECKING:
    from testbed.colosseum.colosseumcli import ColosseumCli
    from testbed.inventory.nodes import Inventory

_NODE = click.option("--node", help="The node that runs colosseumcli (default: the first with an rf_node).")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def scenario() -> None:
    """Start and stop Colosseum's channel scenario, through `colosseumcli` on a node.

    For interactive reservations; a batch job has its scenario in its file.
    """


@scenario.command()
@click.argument("number", type=int, required=False)
@NODES
@_NODE
@click.option(
    "srns",
    "--srn",
    multiple=True,
    metavar="NODE=SRN",
    help="The SRN of a node of the inventory, for the radio map; all nodes with an rf_node, or none of them.",
)
@click.option("--cycle", is_flag=True, help="Repeat the scenario when it ends.")
@click.option(
    "--timeout",
    "timeout_s",
    type=float,
    default=300.0,
    show_default=True,
    help="Seconds until the scenario must have a start time.",
)
@reports_errors
def start(
    number: int | None,
    nodes: Path,
    node: str | None,
    srns: tuple[str, ...],
    cycle: bool,
    timeout_s: float,
) -> None:
    """Start the scenario NUMBER, or that of the inventory, and print its start time.

    Without --srn, Colosseum gives the SRNs to the scenario's nodes in their order.
    """
    from splitfl.core.errors import ConfigError
    from testbed.colosseum.colosseumcli import srns_of
    from testbed.inventory.load import load

    found = load(nodes)
    number = number or found.scenario.id
    if not number:
        raise ConfigError("give the scenario's number, or scenario.id in the inventory")
    mapped = srns_of(found, srns)
    click.echo(_cli(found, node).start(number, mapped, timeout_s, is_cycled=cycle))


@scenario.command()
@NODES
@_NODE
@reports_errors
def stop(nodes: Path, node: str | None) -> None:
    """Stop the scenario; returns after 16 s, when another may be started."""
    from testbed.inventory.load import load

    _cli(load(nodes), node).stop()


@scenario.command()
@NODES
@_NODE
@AS_JSON
@reports_errors
def status(nodes: Path, node: str | None, as_json: bool) -> None:
    """Show the current or last scenario."""
    from testbed.inventory.load import load

    found = _cli(load(nodes), node).info()
    if as_json:
        click.echo(dumps(vars(found), indent=2))
    elif not found.scenario_id:
        click.echo("no scenario has been started")
    else:
        cycle = ", repeated" if found.is_cycled else ""
        click.echo(
            f"scenario {found.scenario_id} is {found.status}, started at {found.start_time}, "
            f"{found.nodes} nodes{cycle}"
        )


@scenario.command(name="map")
@NODES
@_NODE
@AS_JSON
@reports_errors
def map_(nodes: Path, node: str | None, as_json: bool) -> None:
    """Show which SRN stands for each node of the scenario."""
    from testbed.inventory.load import load

    rows = _cli(load(nodes), node).radio_map()
    if as_json:
        click.echo(dumps(rows, indent=2))
        return
    for row in rows:
        srn = "unused" if row["SRN"] == "None" else f"SRN {row['SRN']}"
        click.echo(f"{row['Node']:10} {srn}")


def _cli(inventory: "Inventory", name: str | None) -> "ColosseumCli":
    """`colosseumcli` on the named node of an inventory. Raises ConfigError for an unknown one."""
    from splitfl.config import one_of
    from splitfl.core.errors import ConfigError
    from testbed.colosseum.colosseumcli import ColosseumCli
    from testbed.colosseum.remote_command import on_node

    nodes = {node.name: node for node in inventory.nodes}
    if name is not None:
        one_of("--node", name, nodes)
    chosen = [nodes[name]] if name else [node for node in nodes.values() if node.rf_node]
    if not chosen:
        raise ConfigError("no node of the inventory has an rf_node: name one that has colosseumcli by --node")
    return ColosseumCli(on_node(chosen[0]))
