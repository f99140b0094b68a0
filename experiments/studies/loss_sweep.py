"""Accuracy of a split run against packet loss, by erasure policy.

    python -m experiments.studies.loss_sweep --out FOLDER [--seeds 0,1] [--set table.key=value]

Runs the preset `loss-sweep` with equal loss rates in both directions, and the same policy for
activations and gradients. Finished runs are reused, so an interrupted sweep can be repeated.
Writes loss-sweep.json and loss-sweep.png beside the runs' folders.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from experiments.presets import find
from splitfl.core.json_text import dumps
from splitfl.core.quantities import seconds_text
from splitfl.setup.experiment_file import as_dict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POLICIES: Final = ("reliable", "mask", "zero", "rescale")
LOSS_RATES: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.6)
Row = dict[str, Any]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The parent of the runs' folders."
)
@click.option("--seeds", default="0", show_default=True, help="Seeds, separated by commas.")
@click.option("--set", "overrides", multiple=True, help="A setting of the preset, as table.key=value.")
def main(out: Path, seeds: str, overrides: tuple[str, ...]) -> None:
    """Accuracy of a split run against packet loss, for every erasure policy."""
    rows = [row for seed in map(int, seeds.split(",")) for row in sweep(out, seed, overrides)]
    (out / "loss-sweep.json").write_text(dumps(rows, indent=2) + "\n", encoding="utf-8")
    draw(rows).savefig(out / "loss-sweep.png", dpi=150)
    click.echo(table(rows))


def sweep(out: Path, seed: int, overrides: tuple[str, ...]) -> list[Row]:
    """One row for every policy and loss rate; policies share one run without loss."""
    from experiments.studies.cached_runs import changed, run_once  # imports torch

    settings = as_dict(find("loss-sweep", overrides)[1])
    rows = []
    for policy in POLICIES:
        for loss_rate in LOSS_RATES:
            applied = policy if loss_rate else "reliable"
            config = changed(
                settings,
                {
                    "train.seed": seed,
                    "link.up.loss_rate": loss_rate,
                    "link.down.loss_rate": loss_rate,
                    "erasure.activation": applied,
                    "erasure.gradient": applied,
                },
            )
            summary = run_once(config, out / f"{applied}-{loss_rate:.2f}-seed-{seed}")
            rows.append(row_of(policy, loss_rate, seed, summary))
            click.echo(f"{policy:9} {loss_rate:4.0%} seed {seed}: {_text(rows[-1])}", err=True)
    return rows


def row_of(policy: str, loss_rate: float, seed: int, summary: Row) -> Row:
    """The study's row of a run's summary."""
    return {
        "policy": policy,
        "loss_rate": loss_rate,
        "seed": seed,
        **{name: summary["final"][name] for name in ("accuracy", "eval_loss", "train_loss")},
        **{name: summary[name] for name in ("virtual_s", "airtime_s", "packets", "retransmissions")},
    }


def table(rows: list[Row]) -> str:
    """Means over seeds, loss rates downwards: accuracy, held-out loss and virtual time of each policy."""
    lines = ["loss   " + "".join(f"{policy:>26}" for policy in POLICIES)]
    for loss_rate in LOSS_RATES:
        cells = [_text(_mean(rows, policy, loss_rate)) for policy in POLICIES]
        lines.append(f"{loss_rate:4.0%}   " + "".join(f"{cell:>26}" for cell in cells))
    return "\n".join(lines)


def draw(rows: list[Row]) -> "Figure":
    """Accuracy and virtual time against the loss rate, one line per policy."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.0, 3.6), layout="constrained")
    sides = figure.subplots(1, 2)
    for policy, marker in zip(POLICIES, "os^D", strict=True):
        means = [_mean(rows, policy, loss_rate) for loss_rate in LOSS_RATES]
        rates = [100.0 * loss_rate for loss_rate in LOSS_RATES]
        for axes, name, scale in ((sides[0], "accuracy", 100.0), (sides[1], "virtual_s", 1.0)):
            axes.plot(rates, [scale * mean[name] for mean in means], marker=marker, label=policy)
    sides[0].set(xlabel="packets lost, %", ylabel="held-out accuracy, %")
    sides[1].set(xlabel="packets lost, %", ylabel="virtual time of the run, s", ylim=(0, None))
    sides[0].legend(frameon=False)
    for axes in sides:
        axes.grid(alpha=0.3)
    return figure


def _mean(rows: list[Row], policy: str, loss_rate: float) -> Row:
    chosen = [row for row in rows if (row["policy"], row["loss_rate"]) == (policy, loss_rate)]
    names = ("accuracy", "eval_loss", "virtual_s")
    return {name: sum(row[name] for row in chosen) / len(chosen) for name in names}


def _text(row: Row) -> str:
    return f"{row['accuracy']:.1%} {row['eval_loss']:.3f} {seconds_text(row['virtual_s'])}"


if __name__ == "__main__":
    main()
