"""The same split finetuning in one process, over a packet-level cell and over the waveform, at three SNRs.

    sudo python -m experiments.studies.waveform_snr --out FOLDER [--snr 14,20,26] [--set table.key=value]

Runs a small version of the preset `demo`: two clients, 48 steps, int4 activations and gradients. The cell
and the waveform have the same scenario: users with a mean SNR of a subcarrier, TDL-C fading and hardly any
motion, in a band of three resource blocks. The cell adapts modulation and code, the waveform has those of
`radio.mcs`. Everything is acknowledged. Finished runs are reused, so an interrupted study can be repeated.
Writes waveform-snr.json and waveform-snr.png beside the runs' folders.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from channel.core.units import ratio_to_db
from channel.propagation.noise import noise_w
from experiments.presets import find
from splitfl.core.json_text import dumps
from splitfl.core.quantities import bytes_text, percent_text, seconds_text
from splitfl.setup.experiment_file import as_dict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from splitfl.config import RunConfig
    from splitfl.runtime.screen import Screen
    from splitfl.runtime.serve import Ended, NewFolder
    from splitfl.setup.experiment import Experiment

Row = dict[str, Any]

_GROUPS: Final = 3
_GROUP_HZ: Final = 180e3
_SLOT_S: Final = 1e-3
RATE_HZ: Final = round(_GROUPS * _GROUP_HZ * 64 / 52)
"""The used subcarriers are as wide as the cell's carrier."""
_POWER_DBM: Final = 30.0
_NOISE_FIGURE_DB: Final = 7.0
_SETTINGS: Final = {
    "federation.clients": 2,
    "federation.rounds": 2,
    "federation.local_steps": 12,
    "train.batch_size": 4,
    "codec.activation": "int4",
    "codec.gradient": "int4",
    "radio.rate_hz": float(RATE_HZ),
    "transport.timeout_s": 600.0,
    "transport.join_timeout_s": 600.0,
}
_SCENARIO: Final = """\
about = "two users at a mean SNR of {snr_db:g} dB, TDL-C fading at 0.1 m/s"
[place]
environment = "constant"
loss_db = {loss_db:.3f}
users = 2
speed_m_s = 0.1
shadowing = false
[carrier]
subcarrier_hz = 15e3
groups = {groups}
blocks_per_group = 1
base_dbm = {power_dbm:g}
base_noise_figure_db = {figure_db:g}
user_noise_figure_db = {figure_db:g}
uplink_target_snr_db = 80.0
[device]
transmit_dbm = {power_dbm:g}
[fading]
profile = "C"
delay_spread_s = 100e-9
[link]
receiver = "splitfl-ofdm"
"""


@dataclass(frozen=True, kw_only=True)
class LinkModel:
    """One implementation of the link between server and clients.

    `run` runs these settings in this folder, over the scenario of this file, and returns the summary; `row`
    takes the columns that differ between implementations from summary and folder. `has_snr` is False without
    a radio.
    """

    name: str
    run: Callable[[Mapping[str, Any], Path, Path], Row]
    row: Callable[[Row, Path], Row]
    has_snr: bool = True


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The parent of the runs' folders."
)
@click.option("--snr", "snrs", default="14,20,26", show_default=True, help="Mean SNRs in dB.")
@click.option("--set", "overrides", multiple=True, help="A setting of the preset, as table.key=value.")
def main(out: Path, snrs: str, overrides: tuple[str, ...]) -> None:
    """Accuracy, bytes, airtime and seconds of a split run by implementation of its link."""
    rows = study(out, [float(one) for one in snrs.split(",")], overrides)
    (out / "waveform-snr.json").write_text(dumps(rows, indent=2) + "\n", encoding="utf-8")
    draw(rows).savefig(out / "waveform-snr.png", dpi=150)
    click.echo(table(rows))


def study(out: Path, snrs_db: list[float], overrides: tuple[str, ...]) -> list[Row]:
    """One row for each model of the link and SNR; one without a radio has a single row, whose SNR is None."""
    defaults = (f"{key}={json.dumps(value)}" for key, value in _SETTINGS.items())
    settings = as_dict(find("demo", (*defaults, *overrides))[1])
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for model in LINK_MODELS:
        for snr_db in snrs_db if model.has_snr else [None]:
            name = model.name if snr_db is None else f"{model.name}-{snr_db:g}-dB"
            folder = out / name
            summary = model.run(settings, folder, _scenario_file(out, snr_db))
            own = model.row(summary, folder)
            rows.append({"link": model.name, "snr_db": snr_db, **_common(summary), **own})
            click.echo(f"{name}: {_cells(rows[-1])}", err=True)
    return rows


def _scenario_file(out: Path, snr_db: float | None) -> Path:
    """The file of the scenario with this SNR; for None a path without a file."""
    path = out / f"snr-{snr_db}.toml"
    if snr_db is not None:
        path.write_text(scenario_text(snr_db), encoding="utf-8")
    return path


def scenario_text(snr_db: float) -> str:
    """A scenario with this mean SNR of a subcarrier in both directions, if one user has the whole band."""
    noise_dbm = 30.0 + float(ratio_to_db(noise_w(_GROUPS * _GROUP_HZ, noise_figure_db=_NOISE_FIGURE_DB)))
    return _SCENARIO.format(
        snr_db=snr_db,
        loss_db=_POWER_DBM - noise_dbm - snr_db,
        groups=_GROUPS,
        power_dbm=_POWER_DBM,
        figure_db=_NOISE_FIGURE_DB,
    )


def table(rows: list[Row]) -> str:
    """One line for each row."""
    titles = ("accuracy", "bytes", "airtime", "seconds", "lost", "repeated")
    lines = [f"{'link':10}{'SNR':>7}" + "".join(f"{title:>13}" for title in titles)]
    for row in rows:
        snr = "" if row["snr_db"] is None else f"{row['snr_db']:g} dB"
        lines.append(f"{row['link']:10}{snr:>7}{_cells(row)}")
    return "\n".join(lines)


def draw(rows: list[Row]) -> "Figure":
    """Airtime, seconds, loss rate and accuracy against the SNR, one line for each model."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10.0, 3.4), layout="constrained")
    panels = (
        ("airtime_s", 1.0, "time on air, s"),
        ("seconds", 1.0, "time of the run, s"),
        ("loss_rate", 100.0, "blocks or packets lost at first, %"),
        ("accuracy", 100.0, "held-out accuracy, %"),
    )
    links = list(dict.fromkeys(row["link"] for row in rows))
    for axes, (name, scale, label) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for colour, link in enumerate(links):
            own = [row for row in rows if row["link"] == link]
            values = [scale * row[name] for row in own]
            if own[0]["snr_db"] is None:
                axes.axhline(values[0], color=f"C{colour}", linestyle=":", label=link)
            else:
                axes.plot([row["snr_db"] for row in own], values, "o-", color=f"C{colour}", label=link)
        axes.set(xlabel="mean SNR, dB", ylabel=label, ylim=(0, None))
        axes.grid(alpha=0.3)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper center", ncols=len(links), frameon=False
    )
    return figure


def _in_process(settings: Mapping[str, Any], folder: Path, scenario: Path) -> Row:
    from splitfl.comparison.cached_runs import run_once  # imports torch

    return run_once(_config(settings, {"transport.name": "inproc"}), folder)


def _over_cell(settings: Mapping[str, Any], folder: Path, scenario: Path) -> Row:
    from splitfl.comparison.cached_runs import run_once

    return run_once(_config(settings, {"transport.name": "inproc", "link.scenario": str(scenario)}), folder)


def _over_waveform(settings: Mapping[str, Any], folder: Path, scenario: Path) -> Row:
    from experiments.live.radio_run import run_radio
    from splitfl.comparison.cached_runs import run_once

    def run_over(experiment: "Experiment", new_folder: "NewFolder", screen: "Screen") -> "Ended":
        return run_radio(experiment, str(scenario), new_folder, screen)

    return run_once(_config(settings, {"transport.name": "rpc"}), folder, run_over)


def _config(settings: Mapping[str, Any], overrides: Mapping[str, Any]) -> "RunConfig":
    from experiments.studies.cached_runs import changed

    return changed({**settings, "link": {}}, overrides)


def _common(summary: Row) -> Row:
    return {
        **{name: summary["final"][name] for name in ("accuracy", "eval_loss")},
        **{name: summary[name] for name in ("bytes_up", "bytes_down", "wall_s")},
    }


def _of_process(summary: Row, folder: Path) -> Row:
    return {"airtime_s": 0.0, "seconds": summary["virtual_s"], "loss_rate": 0.0, "retransmissions": 0}


def _of_cell(summary: Row, folder: Path) -> Row:
    """Of the virtual clock; a transport block is on the air for one slot, and lost if it is repeated."""
    airtime_s, repeated = summary["airtime_s"], summary["retransmissions"]
    return {
        "airtime_s": airtime_s,
        "seconds": summary["virtual_s"],
        "loss_rate": repeated * _SLOT_S / airtime_s,
        "retransmissions": repeated,
    }


def _of_samples(summary: Row, folder: Path) -> Row:
    """Of the waveform's samples; a packet is lost if its payload has errors.

    `seconds` are those of samples in which the server heard a packet, without the start of the processes.
    """
    from experiments.live.radio_figures import RECORD

    radio, record = summary["radio"], json.loads((folder / RECORD).read_text(encoding="utf-8"))
    links = radio["links"]
    return {
        "airtime_s": sum(radio["airtime_s"]),
        "seconds": float(len({row["time_s"] for row in record["rows"] if row["at"] == 0})),
        "samples_s": radio["seconds"],
        "loss_rate": sum(one["bad"] for one in links) / sum(one["packets"] for one in links),
        "retransmissions": sum(one["retransmissions"] for one in links),
        "given_up": sum(one["given_up"] for one in links),
        "slipped_s": radio["slipped_s"],
    }


LINK_MODELS: Final = (
    LinkModel(name="process", run=_in_process, row=_of_process, has_snr=False),
    LinkModel(name="cell", run=_over_cell, row=_of_cell),
    LinkModel(name="waveform", run=_over_waveform, row=_of_samples),
)
"""A further implementation of the link is a further row."""


def _cells(row: Row) -> str:
    cells = (
        f"{row['accuracy']:.1%}",
        bytes_text(row["bytes_up"] + row["bytes_down"]),
        seconds_text(row["airtime_s"]),
        seconds_text(row["seconds"]),
        percent_text(row["loss_rate"]),
        f"{row['retransmissions']:,}",
    )
    return "".join(f"{cell:>13}" for cell in cells)


if __name__ == "__main__":
    main()
