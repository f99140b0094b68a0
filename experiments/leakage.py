"""The commands on leakage: who sees what in a run, and attacks on what its server observed."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.table import Table

from experiments import presets
from splitfl.config import RunConfig, at_least
from splitfl.core.errors import ConfigError
from splitfl.core.events import Events
from splitfl.core.json_text import dumps
from splitfl.evaluation.leakage import Leakage
from splitfl.privacy.exposure import exposures, views
from splitfl.privacy.leak import Leak, leak_text
from splitfl.privacy.observation import Observation, observed_rounds
from splitfl.runtime.quiet import quiet
from splitfl.runtime.terminal import plain_console, print_note, spinner
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load


def show(run_or_preset: str, overrides: tuple[str, ...], as_json: bool) -> None:
    """See the command `privacy show`."""
    config = _config(run_or_preset, overrides)
    parties = [asdict(view) for view in views(config)]
    methods = [{"method": name, **asdict(one)} for name, one in exposures().items()]
    if as_json:
        click.echo(dumps({"parties": parties, "methods": methods}, indent=2))
        return
    console = plain_console()
    for title, rows in ((f"{config.method.name}: who sees what", parties), ("what clients send", methods)):
        table = Table(title=title, title_justify="left")
        for name in rows[0]:
            table.add_column(name.replace("_", " "), overflow="fold")
        for row in rows:
            table.add_row(*(str(value) or "-" for value in row.values()))
        console.print(table)
    console.print(
        "What does not cross in the clear may still be computed from what does: "
        "`splitfl run --set 'privacy.probes=[...]'` measures attacks, `splitfl list attacks` names them.",
        soft_wrap=True,
    )


def attack(
    folder: Path, kinds: Sequence[str], rounds: Sequence[int], age: int, data: str | None, as_json: bool
) -> None:
    """See the command `attack`."""
    quiet()
    at_least("--age", age, 0)
    if not (folder / "summary.json").exists():
        raise ConfigError(f"{folder} has no summary.json: a run is attacked once it has ended")
    have = observed_rounds(folder)
    chosen = [_observed(folder, have, "--round", number - 1) for number in rounds] or have[-1:]
    if not chosen:
        raise ConfigError(f"{folder} has no observed rounds: run with privacy.probes")
    console = plain_console(stderr=True)
    with spinner(console, "reading the data"):
        leakage = Leakage(Experiment.of(_with_probes(folder, kinds, data)))
    found: list[Leak] = []
    for index in chosen:
        older = _observed(folder, have, "--age", index - age)
        with spinner(console, f"attacking round {index + 1}"):
            observation, before = Observation.load(folder, index), Observation.load(folder, older)
            found += leakage.attacked(folder, observation, kinds, before)
    with Events(folder / "metrics.jsonl") as events:
        for leak in found:
            events.write("leak", **asdict(leak))
    from experiments.report import write_report  # imports matplotlib

    write_report(folder)
    if as_json:
        click.echo(dumps([asdict(leak) for leak in found], indent=2))
    else:
        plain_console().print(_table(found))


def _config(run_or_preset: str, overrides: tuple[str, ...]) -> RunConfig:
    file = Path(run_or_preset) / "config.json"
    return load(file, overrides) if file.exists() else presets.find(run_or_preset, overrides, print_note)[1]


def _with_probes(folder: Path, kinds: Sequence[str], data: str | None) -> RunConfig:
    """The settings of the run, with these attacks besides its own."""
    own = load(folder / "config.json").privacy.probes
    overrides = [f"privacy.probes={json.dumps(list(dict.fromkeys((*own, *kinds))))}"]
    return load(folder / "config.json", overrides + ([f"task.data={json.dumps(data)}"] if data else []))


def _observed(folder: Path, have: Sequence[int], option: str, index: int) -> int:
    if index not in have:
        rounds = ", ".join(str(one + 1) for one in have) or "none"
        raise ConfigError(f"{option}: round {index + 1} of {folder} was not observed; have {rounds}")
    return index


def _table(leaks: Sequence[Leak]) -> Table:
    table = Table("round", "attack", "measure", "value", "95 % interval", "constant guess", "of", "age")
    for leak in leaks:
        interval = "" if leak.low is None or leak.high is None else f"{leak.low:.3f} to {leak.high:.3f}"
        chance = "" if leak.chance is None else f"{leak.chance:.3f}"
        name = leak.metric.replace("_", " ")
        table.add_row(
            str(leak.round + 1),
            leak.attack,
            name,
            leak_text(leak),
            interval,
            chance,
            f"{leak.n:,}",
            str(leak.age),
        )
    return table
