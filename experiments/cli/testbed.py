"""`splitfl testbed`: slow imports are inside the commands."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from experiments.cli.exits import FAILED, reports_errors, stop
from experiments.cli.imports import without_collections
from experiments.cli.options import AS_JSON, DATA, NODES, OUT, SET, with_data
from experiments.cli.overlay import overlay

_TRANSPORT = click.option(
    "--transport", help="Use this transport (as the doctor names them) instead of the first that works."
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def testbed() -> None:
    """Run an experiment on the machines of an inventory: plan, deploy, run, collect, down.

    Machines are reached by ssh as your own configuration names them; nothing is asked on the terminal.
    Every command may be interrupted and repeated.
    """


testbed.add_command(overlay)


@testbed.command()
@click.argument("preset")
@NODES
@_TRANSPORT
@SET
@DATA
@AS_JSON
@reports_errors
def plan(
    preset: str,
    nodes: Path,
    transport: str | None,
    overrides: tuple[str, ...],
    data: str | None,
    as_json: bool,
) -> None:
    """Print roles, transports, bytes and duration of a run; writes nothing.

    The exit code is 1 if the reservation is too short, or a node lacks packages.
    """
    with without_collections():
        from experiments.remote import commands

    sys.exit(commands.plan(preset, nodes, with_data(overrides, data), transport, as_json_too=as_json))


@testbed.command()
@click.argument("preset")
@NODES
@_TRANSPORT
@SET
@DATA
@click.option(
    "--wheel",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The wheel of splitfl to install (default: built from this clone).",
)
@click.option("--image", is_flag=True, help="First run the inventory's hooks prepare_image and load_image.")
@click.option("--discard", is_flag=True, help="Discard a run on the nodes that was not collected.")
@reports_errors
def deploy(
    preset: str,
    nodes: Path,
    transport: str | None,
    overrides: tuple[str, ...],
    data: str | None,
    wheel: Path | None,
    image: bool,
    discard: bool,
) -> None:
    """Copy packages, settings, model, data and secrets to the nodes, and install them there."""
    chosen = with_data(overrides, data)
    with _alone(nodes, "deploy", "repeat it, or `splitfl testbed down` removes what was copied"):
        with without_collections():
            from experiments.remote import commands

        commands.deploy(preset, nodes, chosen, transport, wheel, image=image, discard=discard)


@testbed.command()
@NODES
@click.option("--again", is_flag=True, help="Start another run after a collected one.")
@reports_errors
def run(nodes: Path, again: bool) -> None:
    """Start server and clients on the nodes and watch them until the run ends.

    The run does not depend on this command: if it is interrupted, start it again. Programs that a reboot
    has ended are restarted as [fault_tolerance] permits.
    """
    with _alone(nodes, "run", "the nodes continue: `splitfl testbed run` shows them again, `down` ends them"):
        with without_collections():
            from experiments.remote import commands

        sys.exit(commands.run(nodes, again=again))


@testbed.command()
@NODES
@AS_JSON
@reports_errors
def status(nodes: Path, as_json: bool) -> None:
    """Print the state of every node."""
    from experiments.remote import commands

    sys.exit(commands.status(nodes, as_json=as_json))


@testbed.command()
@NODES
@OUT
@reports_errors
def collect(nodes: Path, out: Path) -> None:
    """Merge logs, versions, clocks and results of all nodes into one run folder with a report."""
    with _alone(nodes, "collect", "repeat it"):
        with without_collections():
            from experiments.remote import commands

        sys.exit(commands.collect(nodes, out))


@testbed.command()
@NODES
@click.option(
    "--forget",
    is_flag=True,
    help="Leave out nodes that cannot be reached any more, as after the end of a reservation.",
)
@reports_errors
def down(nodes: Path, forget: bool) -> None:
    """End all programs on the nodes and remove everything that was deployed."""
    with _alone(nodes, "down", "repeat it to remove the rest"):
        from experiments.remote import commands

        commands.down(nodes, forget=forget)


@contextmanager
def _alone(nodes: Path, command: str, if_interrupted: str) -> Iterator[None]:
    """Excludes other commands on this inventory; says how to continue after an interrupt."""
    from testbed.remote.exclusive import exclusively

    try:
        with exclusively(nodes, command):
            yield
    except KeyboardInterrupt:
        stop(f"interrupted; {if_interrupted}", FAILED)
