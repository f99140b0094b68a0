"""The same split finetuning with tokens lost in a packet-level cell, as predicted, and over the waveform.

    python -m experiments.studies.token_losses --out FOLDER [--snr 14,20,26] [--seeds 0,1,2]

Runs a small version of the preset `demo` over the scenario of `waveform_snr`: activations are masked and
gradients rescaled where tokens are lost. Predicted packets and the waveform are the transport `radio` without
and with samples; the cell adapts modulation and code, and repeats by HARQ. Finished runs are reused, so an
interrupted study can be repeated. Writes token-losses.json and token-losses.png beside the runs' folders.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

import click

from experiments.presets import find
from experiments.studies.waveform_snr import RATE_HZ, scenario_text
from splitfl.core.json_text import dumps
from splitfl.core.quantities import bytes_text, percent_text, seconds_text
from splitfl.setup.experiment_file import as_dict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]

LINKS: Final = ("process", "cell", "predicted", "waveform")
_SETTINGS: Final = {
    "federation.clients": 2,
    "federation.rounds": 2,
    "federation.local_steps": 12,
    "train.batch_size": 4,
    "eval.every": 1,
    "codec.activation": "int4",
    "codec.gradient": "int4",
}
_ERASURE: Final = {"erasure.activation": "mask", "erasure.gradient": "rescale"}
_TOKEN_BYTES: Final = 200
"""As a packet, room for one row of int4 and not for two."""
_LOSSY: Final = ("Activation", "Gradient")
_MEANS: Final = ("accuracy", "eval_loss", "bytes", "airtime_s", "seconds", "token_loss")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The parent of the runs' folders."
)
@click.option("--snr", "snrs", default="14,20,26", show_default=True, help="Mean SNRs in dB.")
@click.option("--seeds", default="0,1,2", show_default=True, help="Seeds, separated by commas.")
@click.option("--set", "overrides", multiple=True, help="A setting of the preset, as table.key=value.")
def main(out: Path, snrs: str, seeds: str, overrides: tuple[str, ...]) -> None:
    """Accuracy, bytes, airtime, seconds and lost tokens of a split run by implementation of its link."""
    out.mkdir(parents=True, exist_ok=True)
    snrs_db = [float(one) for one in snrs.split(",")]
    rows = [row for seed in map(int, seeds.split(",")) for row in study(out, snrs_db, seed, overrides)]
    (out / "token-losses.json").write_text(dumps(rows, indent=2) + "\n", encoding="utf-8")
    draw(rows).savefig(out / "token-losses.png", dpi=150)
    click.echo(table(rows))


def study(out: Path, snrs_db: list[float], seed: int, overrides: tuple[str, ...]) -> list[Row]:
    """One row for each link and SNR; one in process, where all arrives, whose SNR is None."""
    from experiments.studies.cached_runs import changed, run_once  # imports torch

    defaults = (f"{key}={json.dumps(value)}" for key, value in _SETTINGS.items())
    settings = as_dict(find("demo", (*defaults, *overrides))[1])
    rows = []
    for link in LINKS:
        for snr_db in snrs_db if link != "process" else [None]:
            name = f"{link}-seed-{seed}" if snr_db is None else f"{link}-{snr_db:g}-dB-seed-{seed}"
            path = out / f"snr-{snr_db}.toml"
            if snr_db is not None:
                path.write_text(scenario_text(snr_db), encoding="utf-8")
            config = changed({**settings, "link": {}}, {"train.seed": seed, **_of_link(link, str(path))})
            rows.append(row_of(link, snr_db, seed, run_once(config, out / name), out / name))
            click.echo(f"{name}: {_cells(rows[-1])}", err=True)
    return rows


def _of_link(link: str, scenario: str) -> Row:
    """The settings of a link over the scenario of this file."""
    match link:
        case "process":
            return {"transport.name": "inproc"}
        case "cell":
            one_token = {"link.mtu_bytes": _TOKEN_BYTES}
            return {"transport.name": "inproc", "link.scenario": scenario, **one_token, **_ERASURE}
        case _:
            return {
                "transport.name": "radio",
                "transport.scenario": scenario,
                "transport.rate_hz": float(RATE_HZ),
                "transport.token_packet_bytes": 1400,
                "transport.losses": "predicted" if link == "predicted" else "received",
                **_ERASURE,
            }


def row_of(link: str, snr_db: float | None, seed: int, summary: Row, folder: Path) -> Row:
    """The study's row of a run; seconds are those of the virtual clock.

    `token_loss` is the share of lost packets in messages of tokens. A token is a packet of its own, and so is
    what else such a message has, which always arrives: about one packet in a hundred.
    """
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    lossy = [row for row in events if row["event"] == "transfer" and row["kind"] in _LOSSY]
    return {
        "link": link,
        "snr_db": snr_db,
        "seed": seed,
        **{name: summary["final"][name] for name in ("accuracy", "eval_loss")},
        "bytes": summary["bytes_up"] + summary["bytes_down"],
        "airtime_s": summary["airtime_s"],
        "seconds": summary["virtual_s"],
        "token_loss": sum(row["lost_packets"] for row in lossy) / sum(row["packets"] for row in lossy),
        "curve": [row["eval_loss"] for row in events if row["event"] == "round" and "eval_loss" in row],
    }


def table(rows: list[Row]) -> str:
    """Means over seeds, one line for each link and SNR."""
    titles = ("accuracy", "held-out loss", "bytes", "airtime", "seconds", "tokens lost")
    lines = [f"{'link':10}{'SNR':>7}" + "".join(f"{title:>15}" for title in titles)]
    for link, snr_db in dict.fromkeys((row["link"], row["snr_db"]) for row in rows):
        snr = "" if snr_db is None else f"{snr_db:g} dB"
        own = [row for row in rows if (row["link"], row["snr_db"]) == (link, snr_db)]
        means = {name: mean(row[name] for row in own) for name in _MEANS}
        lines.append(f"{link:10}{snr:>7}{_cells(means)}")
    return "\n".join(lines)


def draw(rows: list[Row]) -> "Figure":
    """Lost tokens, airtime and seconds against the SNR, and held-out loss by round at the lowest SNR.

    Lines are means over seeds, areas reach from the smallest to the largest.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 3.4), layout="constrained")
    panels = figure.subplots(1, 4)
    wanted = (
        ("token_loss", 100.0, "tokens lost, %"),
        ("airtime_s", 1.0, "airtime, s"),
        ("seconds", 1.0, "time, s"),
    )
    links = list(dict.fromkeys(row["link"] for row in rows))
    snrs_db = sorted({row["snr_db"] for row in rows if row["snr_db"] is not None})
    for colour, link in enumerate(links):
        own = [row for row in rows if row["link"] == link]
        for axes, (name, scale, _) in zip(panels[:3], wanted, strict=True):
            if link != "process":
                values = [[scale * row[name] for row in own if row["snr_db"] == one] for one in snrs_db]
                _with_range(axes, snrs_db, values, link, colour)
        curves = [row["curve"] for row in own if row["snr_db"] in (None, snrs_db[0])]
        _with_range(panels[3], range(1, len(curves[0]) + 1), list(zip(*curves, strict=True)), link, colour)
    for axes, (_, _, label) in zip(panels[:3], wanted, strict=True):
        axes.set(xlabel="mean SNR, dB", ylabel=label, ylim=(0, None))
    panels[3].set(
        xlabel="round", xticks=range(1, len(curves[0]) + 1), ylabel=f"held-out loss at {snrs_db[0]:g} dB"
    )
    figure.legend(
        *panels[3].get_legend_handles_labels(), loc="outside upper center", ncols=len(links), frameon=False
    )
    return figure


def _with_range(axes: Any, at: Any, values: list[Any], label: str, colour: int) -> None:
    """The means of these values over the area between the smallest and the largest."""
    style = {"color": f"C{colour}"}
    axes.plot(at, [mean(one) for one in values], "o-", label=label, **style)
    axes.fill_between(at, [min(one) for one in values], [max(one) for one in values], alpha=0.15, **style)
    axes.grid(alpha=0.3)


def _cells(row: Mapping[str, Any]) -> str:
    cells = (
        f"{row['accuracy']:.1%}",
        f"{row['eval_loss']:.3f}",
        bytes_text(row["bytes"]),
        seconds_text(row["airtime_s"]),
        seconds_text(row["seconds"]),
        percent_text(row["token_loss"]),
    )
    return "".join(f"{cell:>15}" for cell in cells)


if __name__ == "__main__":
    main()
