"""Options shared by several commands."""

import json
from pathlib import Path

import click

SET = click.option(
    "overrides",
    "--set",
    "-s",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Override a setting of the experiment; may be repeated. If it chooses another method, transport, "
    "adapter kind, link or tracker, settings of the experiment that this does not have are dropped, and "
    "reported.",
)
DATA = click.option("--data", metavar="PATH", help="The task's data: a file, a folder, or hf:NAME.")
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="The parent of run folders.",
)
AS_JSON = click.option("as_json", "--json", is_flag=True, help="Print JSON for a script instead of a table.")
ON = click.option(
    "--on",
    metavar="BACKEND",
    help="Compute the clients of transport inproc on a Ray cluster: ray:HOST:PORT, ray:auto, or ray (of this "
    "machine).",
)
NODES = click.option(
    "--nodes",
    type=click.Path(path_type=Path),
    default=Path("nodes.toml"),
    show_default=True,
    help="The inventory of the testbed's machines.",
)
MESSAGE_TIMES = click.option(
    "--message-times",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Append when each message was sent and received, on this machine's clock, to this file.",
)


def with_data(overrides: tuple[str, ...], data: str | None) -> tuple[str, ...]:
    """The overrides, with `--data` as an override of task.data."""
    return overrides if data is None else (*overrides, f"task.data={json.dumps(data)}")
