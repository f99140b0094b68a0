"""The command line: thin; everything heavy is imported inside the command that needs it."""

import json
import os
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from experiments.channel_cli import channel

DONE, FAILED, BAD_USAGE = 0, 1, 2

SET = click.option(
    "overrides",
    "--set",
    "-s",
    multiple=True,
    metavar="TABLE.KEY=VALUE",
    help="Put a value over one of the experiment's; may be given many times.",
)
DATA = click.option("--data", metavar="PATH", help="The task's data: a file, a folder, or hf:NAME.")
OUT = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=Path("runs"),
    show_default=True,
    help="Where run folders go.",
)
AS_JSON = click.option("as_json", "--json", is_flag=True, help="Print JSON for a script instead of a table.")


def reports_errors(command: Callable[..., None]) -> Callable[..., None]:
    """Ends with one clear line and exit code 2 for bad input, 1 for a run that failed."""

    @wraps(command)
    def guarded(*args: Any, **kwargs: Any) -> None:
        from splitfl.errors import ConfigError, DataError, ModelMissing, SplitflError

        try:
            command(*args, **kwargs)
        except (ConfigError, DataError, ModelMissing) as error:
            _stop(str(error), BAD_USAGE)
        except SplitflError as error:
            _stop(str(error), FAILED)
        except OSError as error:
            _stop(f"{error.filename or 'the system'}: {error.strerror}", FAILED)
        except KeyboardInterrupt:
            _stop("interrupted; what was measured so far is in the run's folder", FAILED)

    return guarded


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="splitfl")
def main() -> None:
    """Split finetuning of Hugging Face models between clients and a server, over emulated radio links.

    Start with `splitfl run demo`.
    """
    # Before torch is imported: its C++ side writes warnings that help nobody here.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


main.add_command(channel)


@main.command()
@click.argument("preset")
@SET
@DATA
@OUT
@AS_JSON
@reports_errors
def run(preset: str, overrides: tuple[str, ...], data: str | None, out: Path, as_json: bool) -> None:
    """Run an experiment on this machine: PRESET is a name of `splitfl list presets` or a .toml file.

    Over RPC (the default) the server is this process and every client one of its own.
    """
    from experiments import commands

    commands.run(preset, _with_data(overrides, data), out, as_json)


@main.command()
@click.argument("preset")
@click.option("--host", help="The address clients reach this machine by.")
@click.option("--port", type=int, help="The port to listen on (default: any free one).")
@SET
@DATA
@OUT
@AS_JSON
@reports_errors
def serve(
    preset: str,
    host: str | None,
    port: int | None,
    overrides: tuple[str, ...],
    data: str | None,
    out: Path,
    as_json: bool,
) -> None:
    """Run the server's side and wait for `splitfl join` on the clients' machines.

    PyTorch RPC trusts whoever reaches its port: closed networks only.
    """
    from experiments import commands

    chosen = [f"transport.host={host}"] if host else []
    chosen += [f"transport.port={port}"] if port is not None else []
    commands.serve(preset, (*_with_data(overrides, data), *chosen), out, as_json)


@main.command()
@click.argument("address", metavar="HOST:PORT")
@click.option("--client", type=int, required=True, help="Which client this is, from 0.")
@click.option("--model", help="Where the model is on this machine, if not where the server has it.")
@click.option("--device", help="auto, cpu or cuda[:N], if not what the experiment says.")
@click.option(
    "--timeout", "timeout_s", type=float, default=30.0, show_default=True, help="Seconds to find the server."
)
@DATA
@reports_errors
def join(
    address: str, client: int, model: str | None, device: str | None, timeout_s: float, data: str | None
) -> None:
    """Run one client's side of the experiment of the server at HOST:PORT."""
    from experiments import commands

    commands.join(address, client, model=model, device=device, data=data, timeout_s=timeout_s)


@main.command(name="eval")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@DATA
@AS_JSON
@reports_errors
def evaluate(folder: Path, data: str | None, as_json: bool) -> None:
    """Load a run's adapter into the unsplit model, as peft does, and measure it on the held-out data."""
    from experiments import commands

    commands.evaluate(folder, data, as_json)


@main.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@reports_errors
def report(folder: Path) -> None:
    """Write a run's report.html anew."""
    from experiments.report import write_report

    click.echo(write_report(folder))


@main.command()
@click.argument("folders", metavar="RUN RUN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("comparison.html"), show_default=True)
@AS_JSON
@reports_errors
def compare(folders: tuple[Path, ...], out: Path, as_json: bool) -> None:
    """Lay runs side by side: a table here, and a page with plots."""
    from experiments import commands

    commands.compare(list(folders), out, as_json)


@main.command(name="list")
@click.argument("what", type=click.Choice(["presets", "methods", "models", "tasks"]))
@AS_JSON
@reports_errors
def list_(what: str, as_json: bool) -> None:
    """List what there is to choose from."""
    from experiments import commands

    commands.list_rows(what, as_json)


@main.command()
@click.argument("preset")
@SET
@reports_errors
def cite(preset: str, overrides: tuple[str, ...]) -> None:
    """Print BibTeX for what a preset uses."""
    from experiments import commands

    commands.cite(preset, overrides)


def _with_data(overrides: tuple[str, ...], data: str | None) -> tuple[str, ...]:
    return overrides if data is None else (*overrides, f"task.data={json.dumps(data)}")


def _stop(message: str, code: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(code)
