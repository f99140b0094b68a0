"""All benchmarks by name, and the table of their figures."""

import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from rich import box
from rich.progress import Progress
from rich.table import Table
from rich.text import Text
from transformers.utils import logging

from experiments.bench.baselines.one_process import one_process
from experiments.bench.baselines.server_batch import server_batch
from experiments.bench.baselines.two_clients import two_clients
from experiments.bench.codec import codec
from experiments.bench.death import death
from experiments.bench.fresh import NotHere
from experiments.bench.head_memory import head_memory
from experiments.bench.live import live
from experiments.bench.many_clients import many_clients
from experiments.bench.memory import memory
from experiments.bench.over_rpc import over_rpc
from experiments.bench.overhead import overhead
from experiments.bench.overlay import overlay
from experiments.bench.radio import cell_scale
from experiments.bench.radio.cell import cell
from experiments.bench.radio.ldpc import ldpc
from experiments.bench.radio.samples import samples
from experiments.bench.radio_api import radio_api
from experiments.bench.ratio import Figure
from experiments.bench.setting import Setting
from experiments.bench.simulated_clients import simulated_clients
from experiments.bench.transports import transports
from experiments.report.writing import write_whole
from splitfl.config import DeviceConfig, one_of
from splitfl.core.json_text import dumps
from splitfl.run_folder.create import environment
from splitfl.runtime.terminal import counting_bar, plain_console
from splitfl.setup.experiment import device_of

Benchmark = Callable[[Setting, Callable[[str], None]], list[Figure]]
"""Measures, reporting progress, and returns its rows of the table."""

BENCHMARKS: Final[Mapping[str, Benchmark]] = {
    "one-process": one_process,
    "over-rpc": over_rpc,
    "two-clients": two_clients,
    "server-batch": server_batch,
    "memory": memory,
    "head-memory": head_memory,
    "overhead": overhead,
    "codec": codec,
    "transports": transports,
    "death": death,
    "many-clients": many_clients,
    "simulated-clients": simulated_clients,
    "overlay": overlay,
    "live": live,
    "cell": cell,
    "cell-scale": cell_scale.cell_scale,
    "ldpc": ldpc,
    "radio": samples,
    "radio-api": radio_api,
}

PICTURES: Final[Mapping[str, Callable[[Sequence[Figure], Path], None]]] = {"cell-scale": cell_scale.picture}
"""Plots of some benchmarks' figures, written beside the JSON file and named after it and the benchmark."""

_IDLE_LOAD: Final = 0.5
_FILE_COLUMNS: Final = 160
"""The table's width where no terminal has one; the longest row needs most of it."""


def run_suite(only: Sequence[str], *, is_quick: bool, device: str, as_json: Path | None) -> None:
    """Runs the named benchmarks (all if none is named) and prints their figures.

    Raises ConfigError for an unknown name and an unavailable device.
    """
    for name in only:
        one_of("benchmark", name, BENCHMARKS)
    device = device_of(DeviceConfig(device=device))
    logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    found: dict[str, list[Figure]] = {}
    missing: dict[str, str] = {}
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="splitfl-bench-") as folder, _bar() as progress:
        task = progress.add_task("preparing", total=len(only or BENCHMARKS))
        setting = Setting(folder=Path(folder), device=device)
        setting = setting.once() if is_quick else setting
        progress.refresh()
        setting.prepare()
        for name in only or BENCHMARKS:

            def report(what: str, name: str = name) -> None:
                progress.update(task, description=f"{name}: {what}", refresh=True)

            try:
                found[name] = BENCHMARKS[name](setting, report)
            except NotHere as reason:
                missing[name] = str(reason)
            progress.update(task, advance=1, refresh=True)
    command = shlex.join(["python", "-m", "experiments.bench", *sys.argv[1:]])
    provenance = {**environment(command), "machine": machine(), "load": load, "setting": setting.as_row()}
    console = plain_console(width=None if sys.stdout.isatty() else _FILE_COLUMNS)
    console.print(table(found))
    for name, why in missing.items():
        console.print(f"{name}: not run: {why}")
    console.print(f"{provenance['started']}, {provenance['git_commit']}, {provenance['machine']}")
    if load > _IDLE_LOAD:
        busy = f"the machine was not idle (load {load:.1f} at the start): the ratios are less reliable"
        console.print(busy, style="yellow")
    if as_json is not None:
        rows = {name: [figure.as_row() for figure in figures] for name, figures in found.items()}
        write_whole(as_json, (dumps({**provenance, "figures": rows}, indent=2) + "\n").encode())
        for name in found.keys() & PICTURES.keys():
            PICTURES[name](found[name], as_json.with_name(f"{as_json.stem}-{name}.png"))


def table(found: Mapping[str, Sequence[Figure]]) -> Table:
    """The figures as a table for the terminal."""
    caption = "* with the product's allocator setting, which keeps freed memory for the next step"
    shown = Table(box=box.SIMPLE_HEAD, caption=caption, caption_justify="left", pad_edge=False)
    shown.add_column("benchmark", no_wrap=True)
    shown.add_column("ratio of")
    for heading in ("median", "min..max", "target", ""):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, figures in found.items():
        for index, figure in enumerate(figures):
            shown.add_row(
                name if index == 0 else "",
                figure.what,
                _three_digits(figure.median),
                f"{_three_digits(min(figure.ratios))}..{_three_digits(max(figure.ratios))}",
                str(figure.target or ""),
                _met(figure.is_met),
            )
        shown.add_section()
    return shown


def machine() -> str:
    """The number of cores and the processor's name."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text().splitlines() if names.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} cores, {models[0] if models else platform.processor()}"


def _bar() -> Progress:
    """A progress bar that is redrawn only on request, never during a measurement."""
    return counting_bar(plain_console(stderr=True), "{task.description}", live=False)


def _met(is_met: bool | None) -> Text:
    if is_met is None:
        return Text()
    return Text("met", style="green") if is_met else Text("not met", style="red")


def _three_digits(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio >= 0.01 else f"{ratio:.5f}"
