"""What bler_law.json holds beside its simulated rows: betas, and rows that nobody has simulated yet.

`python -m channel.calibration` rewrites those from the simulated rows, and changes nothing else.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from channel.block_error import DATA_FILE, law_document
from channel.capacity import bit_information, snr_db_of_information
from channel.effective_sinr import eesm_db, miesm_db
from channel.mcs import CQI_TABLES, MCS_TABLES
from channel.rng import stream
from channel.tdl import TappedDelayLine
from channel.units import ratio_to_db
from channel.values import Array

LINKS = 400
RESOURCE_BLOCKS = 52
SPREAD_S = 300e-9
_BLOCK_HZ = 180e3


def fitted_beta(modulation_order: int, s50_db: float, *, seed: int = 0) -> float:
    """The beta with which EESM comes nearest to MIESM where a scheme's blocks begin to fail.

    Least squares, in decibels, over draws of TDL-C (300 ns, 52 resource blocks), each scaled so that its
    mutual-information effective SINR is `s50_db`. A bracketing search of beta to 0.1 %.
    """
    faded_db = _at_effective(_responses_db(seed), modulation_order, s50_db)

    def error(log_beta: float) -> float:
        return float(np.mean((eesm_db(faded_db, float(np.exp(log_beta))) - s50_db) ** 2))

    low, high = -2.0, 6.0
    while high - low > 1e-3:
        left, right = low + (high - low) / 3, high - (high - low) / 3
        low, high = (low, right) if error(left) < error(right) else (left, high)
    return float(np.exp((low + high) / 2))


def estimated_row(modulation_order: int, code_rate_1024: float, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """A row that was not simulated, from those that were.

    QPSK slower than any simulated row: the slowest one, repeated, which moves it by the ratio of the rates.
    256QAM: the simulated 64QAM row of the same rate lies `gap` decibels above the SNR at which BICM carries
    that rate, and its slope is proportional to how fast that information grows; the same gap and the mean
    proportion hold here. (The gap grows by 0.03 dB in the mean from 16QAM to 64QAM.)
    """
    if modulation_order == 2:
        slowest = min(rows, key=lambda row: float(row["s50_db"]))
        gain_db = float(ratio_to_db(slowest["code_rate_1024"] / code_rate_1024))
        s50_db, slope = slowest["s50_db"] - gain_db, slowest["slope_per_db"]
    else:
        dense = [row for row in rows if row["modulation_order"] == 6]
        rates = np.asarray([row["code_rate_1024"] for row in dense]) / 1024.0
        found_db = np.asarray([row["s50_db"] for row in dense])
        gaps_db = found_db - snr_db_of_information(6, rates)
        proportion = np.asarray([row["slope_per_db"] for row in dense]) / _growth(6, found_db)
        rate = code_rate_1024 / 1024.0
        s50_db = float(snr_db_of_information(modulation_order, rate) + np.interp(rate, rates, gaps_db))
        slope = float(proportion.mean() * _growth(modulation_order, np.asarray(s50_db)))
    return {
        "modulation_order": modulation_order,
        "code_rate_1024": code_rate_1024,
        "s50_db": round(s50_db, 2),
        "slope_per_db": round(slope, 2),
        "kind": "estimated",
    }


def completed(document: dict[str, Any]) -> dict[str, Any]:
    """The document with its estimated rows and all betas worked out anew."""
    known = [row for row in document["rows"] if row["kind"] != "estimated"]
    have = {(row["modulation_order"], row["code_rate_1024"]) for row in known}
    wanted = {
        (order, rate)
        for table in (*MCS_TABLES.values(), *CQI_TABLES.values())
        for order, rates in table.groups
        for rate in rates
    }
    rows = known + [estimated_row(order, rate, known) for order, rate in sorted(wanted - have)]
    for row in rows:
        row["eesm_beta"] = round(fitted_beta(row["modulation_order"], row["s50_db"]), 2)
    rows.sort(key=lambda row: (row["modulation_order"], row["code_rate_1024"]))
    return {**document, "rows": rows}


def _growth(modulation_order: int, snr_db: Array) -> Array:
    """The information that a bit gains per decibel."""
    step_db = 0.1
    above, below = snr_db + step_db / 2, snr_db - step_db / 2
    gained: Array = bit_information(modulation_order, above) - bit_information(modulation_order, below)
    return gained / step_db


def _responses_db(seed: int) -> Array:
    """Power of LINKS independent links in each resource block (LINKS, RESOURCE_BLOCKS), in decibels."""
    line = TappedDelayLine.stack(
        [
            TappedDelayLine.draw(
                stream(seed, "calibration", link), profile="C", delay_spread_s=SPREAD_S, doppler_hz=0.0
            )
            for link in range(LINKS)
        ]
    )
    response = line.response(np.zeros(1), _BLOCK_HZ * np.arange(RESOURCE_BLOCKS, dtype=np.float64))[:, 0]
    return ratio_to_db(np.abs(response) ** 2)


def _at_effective(level_db_R: Array, modulation_order: int, target_db: float) -> Array:
    """Every row moved up or down, by bisection, until its effective SINR is the target."""
    low = np.full((level_db_R.shape[0], 1), target_db - 40.0)
    high = np.full_like(low, target_db + 60.0)
    for _ in range(45):
        middle = (low + high) / 2
        is_below = miesm_db(level_db_R + middle, modulation_order)[:, None] < target_db
        low, high = np.where(is_below, middle, low), np.where(is_below, high, middle)
    return level_db_R + (low + high) / 2


def _main() -> None:
    document = completed(law_document())
    lines = ",\n    ".join(json.dumps(row) for row in document.pop("rows"))
    head = json.dumps(document, indent=2).removesuffix("\n}")
    text = f'{head},\n  "rows": [\n    {lines}\n  ]\n}}\n'
    Path(__file__).with_name(DATA_FILE).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    _main()
