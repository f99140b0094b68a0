"""`python -m channel.fidelity.fading`: the packet level against the receiver in fading, packet by packet."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from functools import lru_cache
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from typing import Any

import click

from channel.fidelity.comparison import law_at_db
from channel.fidelity.faded_packets import FadingCase, FadingRow, faded, faded_token_row
from channel.phy.receivers import MODEM, implementation_loss_db

DATA_FILE = "fading.json"
SAME_VERDICT, ERROR_RATE_DIFFERENCE, BRIER = 0.95, 0.05, 0.05
"""The goals for walking users: at least the first, at most the others."""

_MCS = (9, 16, 19)
_CHANNELS = {("A", 300e-9): 4.0, ("C", 100e-9): 4.0, ("D", 100e-9): 0.5}
"""Profile and delay spread: by how many decibels the mean SNR exceeds the receiver's 10 % point in noise.

About a third of the packets are lost at these SNRs.
"""
_SPEEDS_M_S = (0.0, 3.0, 8.0, 15.0)


def walking() -> list[FadingCase]:
    """The cases of the comparison: three profiles with three schemes each, at walking speed."""
    return [
        FadingCase(profile=profile, delay_spread_s=spread_s, mcs=mcs, snr_db=_snr_db(mcs, above_db))
        for (profile, spread_s), above_db in _CHANNELS.items()
        for mcs in _MCS
    ]


def moving() -> list[FadingCase]:
    """One case at other speeds."""
    return [
        FadingCase(profile="C", delay_spread_s=100e-9, mcs=16, snr_db=_snr_db(16, 4.0), speed_m_s=speed_m_s)
        for speed_m_s in _SPEEDS_M_S
    ]


def of_tokens() -> list[FadingCase]:
    """The cases in which single tokens are compared: one channel, at walking speed."""
    return [case for case in walking() if case.profile == "C"]


@lru_cache
def measured() -> Mapping[str, Any]:
    """The parsed data file: provenance, and the rows `walking`, `moving` and, of tokens, `tokens`."""
    found: dict[str, Any] = json.loads(
        files("channel.fidelity").joinpath(DATA_FILE).read_text(encoding="utf-8")
    )
    return found


def _snr_db(mcs: int, above_db: float) -> float:
    return round(law_at_db(mcs) + implementation_loss_db(MODEM) + above_db, 2)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--packets", type=click.IntRange(min=50), default=300, show_default=True, help="Of each case.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(__file__).parent / DATA_FILE,
    help="The file to write; by default that of the package.",
)
def main(packets: int, seed: int, out: Path) -> None:
    """Send packets over fading channels, and compare each outcome with the packet level's prediction."""
    rows: dict[str, list[FadingRow]] = {}
    for name, cases, compare in (
        ("walking", walking(), faded),
        ("moving", moving(), faded),
        ("tokens", of_tokens(), faded_token_row),
    ):
        rows[name] = []
        for case in cases:

            def progress(done: int, case: FadingCase = case) -> None:
                click.echo(f"\rTDL-{case.profile}, MCS {case.mcs}: {done} packets\033[K", nl=False)

            rows[name].append(compare(case, packets=packets, seed=seed, progress=progress))
            click.echo(f"\r{_line(rows[name][-1])}\033[K")
    _write(out, packets, seed, rows)
    click.echo(f"written to {out}")


def _line(row: FadingRow) -> str:
    return (
        f"TDL-{row.profile} {row.delay_spread_ns:.0f} ns, {row.speed_m_s:g} m/s, MCS {row.mcs:2}, "
        f"{row.snr_db:.2f} dB: predicted {row.predicted:.3f}, measured {row.measured:.3f}, "
        f"same {row.same_verdict:.1%} (expected {row.expected_same:.1%}), Brier {row.brier:.3f}"
    )


def _write(path: Path, packets: int, seed: int, rows: Mapping[str, list[FadingRow]]) -> None:
    """Writes provenance and rows as JSON, with one line per row."""
    head = {
        "packets": packets,
        "script": "python -m channel.fidelity.fading",
        "seed": seed,
        "versions": {name: version(name) for name in ("numpy", "numba", "scipy")},
    }
    parts = [f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    for name, found in rows.items():
        lines = ",\n    ".join(json.dumps(_rounded(row)) for row in found)
        parts.append(f'  "{name}": [\n    {lines}\n  ]')
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def _rounded(row: FadingRow) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(row).items()}


if __name__ == "__main__":
    main(prog_name="python -m channel.fidelity.fading")
