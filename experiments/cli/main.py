"""The command line; slow imports are inside the commands."""

import json
import os
from pathlib import Path

import click

from experiments.cli.air import air
from experiments.cli.certs import certs
from experiments.cli.channel import channel
from experiments.cli.colosseum import batch, batch_results
from experiments.cli.compare import compare, plan
from experiments.cli.doctor import doctor
from experiments.cli.exits import reports_errors
from experiments.cli.generate import generate
from experiments.cli.image import image, template
from experiments.cli.imports import without_collections
from experiments.cli.join import join
from experiments.cli.lab import lab
from experiments.cli.live import emulate, proxy
from experiments.cli.options import AS_JSON, DATA, MESSAGE_TIMES, ON, OUT, SET, with_data
from experiments.cli.radio import radio
from experiments.cli.scenario import scenario
from experiments.cli.testbed import testbed

LISTED = (
    *("presets", "methods", "adapters", "models", "tasks", "codecs", "aggregators", "links", "transports"),
    "trackers",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="splitfl")
def main() -> None:
    """Split fine-tuning of Hugging Face models between clients and a server, over emulated radio links.

    Start with `splitfl run demo`.
    """
    # Before torch is imported: its C++ side prints a stack trace for every lost peer, which it
    # also raises as an error; commands report that in one line.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "FATAL")


main.add_command(certs)
main.add_command(channel)
channel.add_command(air)
channel.add_command(emulate)
channel.add_command(proxy)
main.add_command(compare)
main.add_command(plan)
main.add_command(doctor)
main.add_command(generate)
main.add_command(join)
main.add_command(lab)
main.add_command(radio)
main.add_command(testbed)
testbed.add_command(batch)
testbed.add_command(batch_results)
testbed.add_command(scenario)
testbed.add_command(image)
testbed.add_command(template)


@main.command()
@click.argument("preset")
@SET
@DATA
@OUT
@click.option(
    "--live",
    is_flag=True,
    help="Real packets over the emulated link, in real time, between network namespaces (root).",
)
@click.option(
    "--radio",
    metavar="SCENARIO",
    help="Samples of a modulated waveform over the channel of a scenario, between namespaces (root).",
)
@ON
@AS_JSON
@reports_errors
def run(
    preset: str,
    overrides: tuple[str, ...],
    data: str | None,
    out: Path,
    live: bool,
    radio: str | None,
    on: str | None,
    as_json: bool,
) -> None:
    """Run an experiment on this machine: PRESET is a name of `splitfl list presets` or a .toml file.

    Over RPC (the default), gRPC and MQTT (--set transport.name=grpc) the server is this process
    and every client a child process.
    """
    from experiments.cli import preflight

    chosen = with_data(overrides, data)
    if live + (radio is not None) + (on is not None) > 1:
        raise click.UsageError("give one of --live, --radio and --on")
    if live or radio is not None:
        preflight.check_air(preset, chosen, radio=radio)
    else:
        preflight.check_run(preset, chosen)
    with without_collections():
        from experiments import commands

    commands.run(preset, chosen, out, as_json, live=live, radio=radio, on=on)


@main.command()
@click.argument("preset")
@click.option("--host", help="This machine's address, as clients reach it.")
@click.option("--port", type=int, help="The port to listen on (default: any free one).")
@SET
@DATA
@OUT
@AS_JSON
@MESSAGE_TIMES
@reports_errors
def serve(
    preset: str,
    host: str | None,
    port: int | None,
    overrides: tuple[str, ...],
    data: str | None,
    out: Path,
    as_json: bool,
    message_times: Path | None,
) -> None:
    """Run the server and wait for `splitfl join` on the clients' machines.

    PyTorch RPC has no authentication: use it in closed networks only. Across firewalls use
    --set transport.name=grpc with --set transport.secrets=DIR from `splitfl certs`; if only a
    broker is reachable, --set transport.name=mqtt with HOST and PORT of the broker.
    """
    from experiments.cli import preflight

    chosen = with_data(overrides, data)
    chosen += (f"transport.host={json.dumps(host)}",) if host else ()
    chosen += (f"transport.port={port}",) if port is not None else ()
    preflight.check_serving(preset, chosen)
    with without_collections():
        from experiments import commands

    commands.serve(preset, chosen, out, as_json, message_times)


@main.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@ON
@AS_JSON
@MESSAGE_TIMES
@reports_errors
def resume(folder: Path, on: str | None, as_json: bool, message_times: Path | None) -> None:
    """Continue an interrupted run from its last checkpoint, bit for bit.

    A server listens on its former port again, where its clients reconnect.
    """
    with without_collections():
        from experiments import commands

    commands.resume(folder, as_json, message_times, on=on)


@main.command(name="eval")
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@DATA
@click.option(
    "with_rouge", "--rouge", is_flag=True, help="Compare the model's answers with the data's too (task sft)."
)
@AS_JSON
@reports_errors
def evaluate(folder: Path, data: str | None, with_rouge: bool, as_json: bool) -> None:
    """Load a run's adapter into the unsplit model with peft, and evaluate it on the held-out data.

    Data given with --data is evaluated in full, with the label classes of the run.
    """
    with without_collections():
        from experiments import commands

    commands.evaluate(folder, data, as_json, with_rouge=with_rouge)


@main.command()
@click.argument("folder", metavar="RUN", type=click.Path(path_type=Path))
@reports_errors
def report(folder: Path) -> None:
    """Write a run's report.html again."""
    from experiments.report import write_report

    click.echo(write_report(folder))


@main.command(name="list")
@click.argument(
    "what",
    type=click.Choice(LISTED),
)
@AS_JSON
@reports_errors
def list_(what: str, as_json: bool) -> None:
    """List the available presets, methods, adapters and other choices."""
    with without_collections():
        from experiments import commands

    commands.list_rows(what, as_json)


@main.command()
@click.argument("preset")
@SET
@reports_errors
def cite(preset: str, overrides: tuple[str, ...]) -> None:
    """Print BibTeX for what a preset uses."""
    with without_collections():
        from experiments import commands

    commands.cite(preset, overrides)
