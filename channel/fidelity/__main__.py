"""`python -m channel.fidelity`: measures the modem and writes the implementation loss of `splitfl-ofdm`."""

import json
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from channel.fidelity.comparison import MeasuredScheme, compared, loss_db
from channel.fidelity.packets import PACKET_BYTES, PacketPoint
from channel.phy.receivers import DATA_FILE, MODEM
from channel.waveform.layout import LEAST_MCS, MCS_TABLE

LAST_MCS = 25
"""The last scheme that counts for the loss: the law, fitted at 1,000 bits, is farther off beyond it."""


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--packets", type=click.IntRange(min=50), default=400, show_default=True, help="At each SNR.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path(__file__).parent.parent / "phy" / DATA_FILE,
    help="The file to write; by default that of the package.",
)
def main(packets: int, seed: int, out: Path) -> None:
    """Find the SNR of 10 % packet errors of every scheme, in white noise and behind three taps."""
    rows, points = [], []
    for mcs in range(LEAST_MCS, MCS_TABLE.size):

        def progress(point: PacketPoint) -> None:
            click.echo(f"\rMCS {point.mcs}: {point.snr_db:g} dB, {point.error_rate:.3f} lost\033[K", nl=False)

        row, flat, taps = compared(mcs, packets=packets, seed=seed, progress=progress)
        rows.append(row)
        points += [{"channel": "flat", **asdict(point)} for point in flat]
        points += [{"channel": "three taps", **asdict(point)} for point in taps]
        click.echo(f"\r{_line(row)}\033[K")
    counted = [row for row in rows if row.mcs <= LAST_MCS]
    found = round(loss_db(counted), 2)
    document = {MODEM: {"implementation_loss_db": found, **_provenance(packets, seed)}}
    _write(out, document, [_rounded(row) for row in rows], points)
    click.echo(f"implementation loss {found:.2f} dB, of MCS {LEAST_MCS} to {LAST_MCS}; written to {out}")


def _line(row: MeasuredScheme) -> str:
    flat = f"law {row.law_db:6.2f} dB, white noise {row.flat_db:6.2f}, loss {row.loss_db:5.2f}"
    taps = f"EESM {row.eesm_db:6.2f}, three taps {row.taps_db:6.2f}, {row.difference_db:+.2f}"
    return f"MCS {row.mcs:2}: {flat}; {taps}"


def _provenance(packets: int, seed: int) -> dict[str, Any]:
    return {
        "loss": f"the middle of the smallest and largest loss_db of MCS {LEAST_MCS} to {LAST_MCS}",
        "packets": f"{PACKET_BYTES} bytes, {packets} at each SNR; a lost one was not detected or had errors",
        "script": "python -m channel.fidelity",
        "seed": seed,
        "versions": {name: version(name) for name in ("numpy", "numba", "scipy")},
    }


def _rounded(row: MeasuredScheme) -> dict[str, float]:
    shown = {name: round(value, 2) for name, value in asdict(row).items()}
    return {**shown, "loss_db": round(row.loss_db, 2), "difference_db": round(row.difference_db, 2)}


def _write(path: Path, document: dict[str, Any], rows: list[Any], points: list[Any]) -> None:
    """Writes the document as JSON, with one line per row and per point."""
    marks = {"ten_percent": rows, "points": points}
    document[MODEM] |= dict.fromkeys(marks)
    text = json.dumps(document, indent=2)
    for name, entries in marks.items():
        lines = ",\n      ".join(json.dumps(entry) for entry in entries)
        text = text.replace(f'"{name}": null', f'"{name}": [\n      {lines}\n    ]')
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(prog_name="python -m channel.fidelity")
