"""Accuracy against the bytes sent, by codecs and method, beside SplitLoRA's own set-up.

    python -m experiments.studies.codec_front --out FOLDER [--preset demo] [--seeds 0,1]
        [--only [METHOD@]CODECS] [--set table.key=value]

The method is the preset's, sfl-v2, unless a chain of codecs follows another one's name: frozen@int8.

SplitLoRA (Lin et al., arXiv 2407.00952) sends hidden states and gradients of padded samples in float32, and
all adapters in both directions in each round. Its bytes are counted by formula and by a run whose texts are
filled with full stops to `task.max_length` tokens; all other runs send real tokens alone. Runs are evaluated
after every round. The target is one point below the last accuracy of the run without codecs; a run's bytes to
it are those of all clients in both directions until its accuracy first reaches it. Finished runs are reused.
Writes codec-front.json, codec-front.svg and codec-front.png beside the runs' folders.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from experiments.presets import find
from splitfl.core.json_text import dumps
from splitfl.core.quantities import bytes_text, percent_text
from splitfl.setup.experiment_file import as_dict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from splitfl.config import RunConfig
    from splitfl.runtime.screen import Screen
    from splitfl.runtime.serve import Ended, NewFolder
    from splitfl.setup.experiment import Experiment

Row = dict[str, Any]

SPLITLORA: Final = "SplitLoRA"
PLAIN: Final = "none"
_ADAPTERS: Final = "uniform:step=0.75+huffman"
CHAINS: Final = (
    PLAIN,
    "bf16",
    "int8",
    "int4",
    "uniform:step=0.35+huffman",
    "uniform:step=0.75+huffman",
    "uniform:step=1.5+huffman",
    "topk:fraction=0.1+int4",
    "topk:fraction=0.05+uniform:step=1.0+huffman",
    "topk:fraction=0.02+uniform:step=1.5+huffman",
    "lowrank:rank=32+int4",
    "lowrank:rank=16+uniform:step=0.75+huffman",
    "lowrank:rank=8+uniform:step=0.75+huffman",
    "lowrank:rank=4+uniform:step=0.75+huffman",
)
"""Codecs of activations and gradients; adapters are encoded in every run but the first two."""
_POINT: Final = 0.01


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The parent of the runs' folders."
)
@click.option("--preset", default="demo", show_default=True, help="The preset, of the method sfl-v2.")
@click.option("--seeds", default="0", show_default=True, help="Seeds, separated by commas.")
@click.option("--only", multiple=True, help="[METHOD@]CODECS to run instead of the default chains.")
@click.option("--set", "overrides", multiple=True, help="A setting of the preset, as table.key=value.")
def main(out: Path, preset: str, seeds: str, only: tuple[str, ...], overrides: tuple[str, ...]) -> None:
    """Accuracy against the bytes sent, by codecs and method."""
    chains = dict.fromkeys((PLAIN, *(only or CHAINS)))
    runs = [row for seed in map(int, seeds.split(",")) for row in study(out, preset, seed, chains, overrides)]
    rows = summarised(runs)
    (out / "codec-front.json").write_text(dumps({"runs": runs, "rows": rows}, indent=2) + "\n", "utf-8")
    for kind in ("svg", "png"):
        draw(rows).savefig(out / f"codec-front.{kind}", dpi=150)
    click.echo(table(rows))


def study(
    out: Path, preset: str, seed: int, chains: Mapping[str, None], overrides: tuple[str, ...]
) -> list[Row]:
    """One row for SplitLoRA's set-up and for each chain."""
    from experiments.studies.cached_runs import changed
    from splitfl.comparison.cached_runs import run_once  # imports torch

    settings = as_dict(find(preset, overrides)[1])
    always = {"train.seed": seed, "eval.every": 1, "transport.name": "inproc"}
    splitlora = changed(settings, {**always, "federation.aggregator": "mean"})
    folder = out / f"splitlora-seed-{seed}"
    summary = run_once(splitlora, folder, run_padded)
    found = [row_of(SPLITLORA, seed, folder, summary) | {"formula_bytes": splitlora_bytes(splitlora)}]
    for chain in chains:
        method, _, codecs = chain.rpartition("@")
        named = as_dict(find(preset, (*overrides, f"method.name={method}"))[1]) if method else settings
        config = changed(named, always | codecs_of(named["method"]["name"], codecs))
        folder = out / f"{_file_name(chain)}-seed-{seed}"
        found.append(row_of(chain, seed, folder, run_once(config, folder)))
        click.echo(f"{chain} seed {seed}: {found[-1]['accuracy'][-1]:.1%}", err=True)
    return found


def codecs_of(method: str, codecs: str) -> dict[str, str]:
    """The settings of these codecs for each kind of message that the method sends."""
    from splitfl.methods.registry import method as spec_of

    spec = spec_of(method)
    found = {f"codec.{kind}": codecs for kind in spec.sends}
    if codecs != PLAIN:
        adapters = {"codec.adapter_up", "codec.adapter_down"} & spec.signature.adapter_settings()
        found |= dict.fromkeys(adapters, _ADAPTERS)
    return found


def run_padded(experiment: "Experiment", new_folder: "NewFolder", screen: "Screen") -> "Ended":
    """Runs the experiment in this process with texts that fill `task.max_length` tokens."""
    from splitfl.comparison.cached_runs import in_one_process
    from splitfl.data.examples import Examples

    task, filling = experiment.task, " ." * experiment.config.task.max_length
    assert isinstance(task.train, Examples)
    assert all(isinstance(text, str) for text in task.train.texts)
    train = dataclasses.replace(task.train, texts=tuple(f"{text}{filling}" for text in task.train.texts))
    corpus = dataclasses.replace(task.corpus, train=train)
    padded = dataclasses.replace(experiment, task=dataclasses.replace(task, corpus=corpus))
    return in_one_process(padded, new_folder, screen)


def splitlora_bytes(config: "RunConfig") -> int:
    """The float32 numbers of padded hidden states, their gradients, and all adapters, of all clients.

    Per round and client, 2 s B T D of them for s steps of B samples of T tokens, and 2 P for P adapters.
    """
    from splitfl.setup.adapter_codec import initial_tensors
    from splitfl.setup.experiment import Experiment, steps_of
    from splitfl.setup.pieces import PieceLoader

    one = Experiment.of(config)
    pieces = PieceLoader(config=one.config, task=one.task, num_blocks=one.num_blocks, device="cpu")
    width = pieces.head().block_config.hidden_size
    numbers = sum(value.numel() for value in initial_tensors(one.config, pieces).values())
    federation, each = config.federation, 0
    for client in range(federation.clients):
        steps = steps_of(config, client, one.batches(client))
        each += steps * config.train.batch_size * config.task.max_length * width + numbers
    return 4 * 2 * federation.rounds * each


def row_of(chain: str, seed: int, folder: Path, summary: Row) -> Row:
    """Accuracy and bytes sent until then, round by round, and what the run measured of its codecs."""
    from experiments.report.tally import curve
    from splitfl.run_folder.read import read_run

    points = curve(read_run(folder), "accuracy", "bytes")
    measured = {"codecs": summary["codecs"], "wall_s": summary["wall_s"]}
    return {"chain": chain, "seed": seed, "bytes": points.xs, "accuracy": points.ys, **measured}


def summarised(runs: list[Row]) -> list[Row]:
    """One row for each chain, over seeds: last accuracy, all bytes, and bytes to the target, if reached."""
    plain = [run["accuracy"][-1] for run in runs if run["chain"] == PLAIN]
    target = sum(plain) / len(plain) - _POINT
    full = [run for run in runs if run["chain"] == SPLITLORA]
    most = sum(run["bytes"][-1] for run in full) / len(full)
    rows = []
    for chain in dict.fromkeys(run["chain"] for run in runs):
        own = [run for run in runs if run["chain"] == chain]
        until = [_bytes_to(run, target) for run in own]
        reached = [one for one in until if one is not None]
        to_target = sum(reached) / len(reached) if len(reached) == len(own) else None
        rows.append(
            {
                "chain": chain,
                "accuracy": sum(run["accuracy"][-1] for run in own) / len(own),
                "bytes": sum(run["bytes"][-1] for run in own) / len(own),
                "to_target": to_target,
                "fewer": most / to_target if to_target else None,
                "formula_bytes": own[0].get("formula_bytes"),
                "target": target,
            }
        )
    return rows


def front(rows: list[Row]) -> list[Row]:
    """The rows that no other one exceeds in accuracy with fewer bytes, by bytes."""
    found: list[Row] = []
    for row in sorted(rows, key=lambda row: (row["bytes"], -row["accuracy"])):
        if not found or row["accuracy"] > found[-1]["accuracy"]:
            found.append(row)
    return found


def table(rows: list[Row]) -> str:
    """One line for each chain."""
    lines = [f"{'codecs at the cut':46}{'accuracy':>10}{'bytes':>10}{'to target':>11}{'fewer':>8}"]
    for row in rows:
        until = "missed" if row["to_target"] is None else bytes_text(row["to_target"])
        fewer = "" if row["fewer"] is None else f"{row['fewer']:.1f}"
        figures = f"{percent_text(row['accuracy']):>10}{bytes_text(row['bytes']):>10}{until:>11}{fewer:>8}"
        lines.append(f"{row['chain']:46}{figures}")
    (full,) = [row for row in rows if row["chain"] == SPLITLORA]
    lines.append(f"{SPLITLORA} by formula: {bytes_text(full['formula_bytes'])}")
    lines.append(f"target: {percent_text(full['target'])}")
    return "\n".join(lines)


def draw(rows: list[Row]) -> "Figure":
    """Accuracy against bytes, on a logarithmic axis, with the Pareto front as a line."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 5.0), layout="constrained")
    axes = figure.subplots()
    best = front(rows)
    axes.step(
        [row["bytes"] for row in best],
        [100.0 * row["accuracy"] for row in best],
        where="post",
        color="C0",
        alpha=0.5,
        label="Pareto front",
    )
    for row in rows:
        colour = "C3" if row["chain"] == SPLITLORA else "C0" if row in best else "0.5"
        axes.plot(row["bytes"], 100.0 * row["accuracy"], "o", color=colour)
        axes.annotate(
            row["chain"],
            (row["bytes"], 100.0 * row["accuracy"]),
            xytext=(4, 4),
            textcoords="offset points",
            fontsize=7,
            color=colour,
        )
    axes.axhline(100.0 * rows[0]["target"], color="0.6", linestyle=":", label="one point below no codec")
    axes.set(xscale="log", xlabel="bytes of all clients, both directions", ylabel="held-out accuracy, %")
    axes.grid(alpha=0.3)
    axes.margins(x=0.15)
    axes.legend(frameon=False, loc="best")
    return figure


def _bytes_to(run: Row, target: float) -> float | None:
    points = zip(run["bytes"], run["accuracy"], strict=True)
    return next((sent for sent, accuracy in points if accuracy >= target), None)


def _file_name(chain: str) -> str:
    return chain.translate(str.maketrans(":+=@", "----"))


if __name__ == "__main__":
    main()
