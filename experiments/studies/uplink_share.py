"""The uplink's share of a round's time for three access classes; all clients share one cell.

    python -m experiments.studies.uplink_share --out FOLDER [--seeds N] [--set table.key=value]

Runs one round of the preset `loss-sweep` in each scenario and sums, over the clients, the virtual
time of each activity. The server is fast, so that clients wait little for it. Each seed draws other
client positions; the table has means over seeds. Finished runs are reused.
"""

import json
from pathlib import Path
from typing import Final

import click

from experiments.presets import find
from splitfl.core.json_text import dumps
from splitfl.core.quantities import percent_text, seconds_text
from splitfl.setup.experiment_file import as_dict

SERVER_FLOPS: Final = 1e13
"""The order of a data-centre GPU; with the presets' 5e11 clients mostly wait for the server."""

SCENARIOS: Final = ("lab-wifi", "urban-micro", "urban-macro-edge")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="The parent of the runs' folders."
)
@click.option(
    "--seeds",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="Number of seeds, each with other client positions.",
)
@click.option("--set", "overrides", multiple=True, help="A setting of the preset, as table.key=value.")
def main(out: Path, seeds: int, overrides: tuple[str, ...]) -> None:
    """The uplink's share of a round for three access classes."""
    from experiments.studies.cached_runs import changed, run_once  # imports torch

    shares = {}
    settings = as_dict(find("loss-sweep", overrides)[1])
    one_round = {"federation.rounds": 1, "eval.every": 0, "server.flops": SERVER_FLOPS}
    for scenario in SCENARIOS:
        settings["link"] = {"scenario": scenario}
        rows = []
        for seed in range(seeds):
            config, folder = changed(settings, {**one_round, "train.seed": seed}), out / f"{scenario}-{seed}"
            run_once(config, folder)
            rows.append(shares_of(folder / "metrics.jsonl", config.federation.clients))
        shares[scenario] = mean_of(rows)
    (out / "uplink-share.json").write_text(dumps(shares, indent=2) + "\n", encoding="utf-8")
    click.echo(table(shares))


def shares_of(events: Path, clients: int) -> dict[str, float]:
    """The round's length in seconds, and the mean client's shares of it; the rest is waiting."""
    rows = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    round_s = max(row["finish_s"] for row in rows if row["event"] == "round")
    spent_s = dict.fromkeys(("up", "down", "client"), 0.0)
    for row in rows:
        kind = row.get("direction") or (row["event"] == "compute" and row["side"])
        if kind in spent_s:
            spent_s[kind] += min(row["finish_s"], round_s) - min(row["start_s"], round_s)
    shares = {name: seconds / clients / round_s for name, seconds in spent_s.items()}
    return {"round_s": round_s, **shares, "waiting": 1.0 - sum(shares.values())}


def mean_of(rows: list[dict[str, float]]) -> dict[str, float]:
    """The mean of each value."""
    return {name: sum(row[name] for row in rows) / len(rows) for name in rows[0]}


def table(shares: dict[str, dict[str, float]]) -> str:
    """One line for each scenario."""
    lines = [f"{'scenario':18}{'round':>10}{'uplink':>10}{'downlink':>10}{'computing':>11}{'waiting':>10}"]
    for scenario, row in shares.items():
        parts = [percent_text(row[name]) for name in ("up", "down", "client", "waiting")]
        widths = (10, 10, 11, 10)
        cells = "".join(f"{part:>{width}}" for part, width in zip(parts, widths, strict=True))
        lines.append(f"{scenario:18}{seconds_text(row['round_s']):>10}{cells}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
