"""The two committed files: the simulated points, and the law fitted to them."""

import json
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from channel.calibration.betas import fitted_beta
from channel.calibration.fit import Fit, crossing_db, fitted
from channel.calibration.journal import as_row, from_row
from channel.calibration.simulation import BlerCurve
from channel.calibration.sweep import LONG_BITS, SHORT_BITS, Point, curves, with_other_graph
from channel.core.errors import BadParameter
from channel.core.special_functions import gaussian_tail_inverse
from channel.phy.block_error import DATA_FILE, REFERENCE_BITS

POINTS_FILE = "bler_points.json"
_DECODER = "layered normalised min-sum, factor 0.75, {iterations} iterations at most"

Points = Mapping[BlerCurve, Sequence[Point]]


def by_curve(points: Iterable[Point]) -> Points:
    """The points of each curve, sorted by SNR. Raises BadParameter for a curve without points."""
    found: dict[BlerCurve, list[Point]] = {curve: [] for curve in curves()}
    for point in sorted(points):
        found.setdefault(point.curve, []).append(point)
    missing = [str(curve) for curve, its in found.items() if not its]
    if missing:
        raise BadParameter(f"points must cover every curve; missing: {', '.join(missing)}")
    return found


def committed_points() -> tuple[dict[str, Any], Points]:
    """The provenance of the committed points, and the points."""
    head: dict[str, Any] = json.loads(files("channel.phy").joinpath(POINTS_FILE).read_text(encoding="utf-8"))
    rows = head.pop("points")
    return head, by_curve(from_row(row) for row in rows)


def ten_percent_points_db() -> dict[BlerCurve, float]:
    """The SNR at 10 % BLER of every committed curve, interpolated between its points without the law."""
    _, points = committed_points()
    return {curve: crossing_db(its, 0.1) for curve, its in points.items()}


def law_of(head: Mapping[str, Any], points: Points, progress: Callable[[BlerCurve], None]) -> dict[str, Any]:
    """The contents of the law's file: provenance, and a row per curve of the reference length."""
    rows = []
    for curve in sorted(curve for curve in points if curve.bits == REFERENCE_BITS):
        progress(curve)
        rows.append(_row(curve, points))
    blocks = [point.blocks for its in points.values() for point in its]
    provenance = {
        "channel": "AWGN, E_s/N0 per complex symbol; Gray-mapped QAM, exact demapping, bits interleaved",
        "code": "5G NR LDPC (3GPP TS 38.212), redundancy version 0, code blocks of 1000 bits",
        "decoder": _DECODER.format(iterations=head["iterations"]),
        "blocks_per_point": {"least": min(blocks), "most": max(blocks)},
        "fit": "probit by maximum likelihood; errors are standard errors, miss_db the farthest point's",
        "status": "measured",
        "script": "python -m channel.calibration",
        "points": POINTS_FILE,
        "seed": head["seed"],
        "versions": head["versions"],
    }
    return {
        "law": "BLER = Q(slope_per_db * sqrt(bits / reference_bits) * (snr_db - s50_db))",
        "other_graph_db": "added to s50_db where the length makes the standard use its other base graph, by "
        f"the 10 % point at {SHORT_BITS} bits for rates above 0.67, at {LONG_BITS} for 0.25 to 0.67",
        "reference_bits": int(REFERENCE_BITS),
        "provenance": provenance,
        "eesm_beta": "channel/calibration/betas.py, fitted_beta, seed 0",
        "rows": rows,
    }


def write(folder: Path, head: Mapping[str, Any], points: Points, law: Mapping[str, Any]) -> None:
    """Writes both files, each atomically."""
    rows = [as_row(point) for its in points.values() for point in its]
    _replace(folder / POINTS_FILE, head, "points", rows)
    about = {name: value for name, value in law.items() if name != "rows"}
    _replace(folder / DATA_FILE, about, "rows", law["rows"])


def _row(curve: BlerCurve, points: Points) -> dict[str, Any]:
    fit, other = fitted(points[curve]), with_other_graph(curve)
    s50_db = round(fit.s50_db, 3)
    return {
        "modulation_order": curve.modulation_order,
        "code_rate_1024": curve.code_rate_1024,
        "s50_db": s50_db,
        "s50_error_db": round(fit.s50_error_db, 4),
        "slope_per_db": round(fit.slope_per_db, 3),
        "slope_error_per_db": round(fit.slope_error_per_db, 3),
        "miss_db": round(fit.miss_db, 3),
        "other_graph_db": round(_later_db(fit, fitted(points[other]), other.bits), 3) if other else 0.0,
        "eesm_beta": round(fitted_beta(curve.modulation_order, s50_db), 2),
    }


def _later_db(fit: Fit, other: Fit, bits: int) -> float:
    """The shift in decibels of the 10 % BLER point of the other base graph against the law of this one."""
    steepness, lag = math.sqrt(bits / REFERENCE_BITS), float(gaussian_tail_inverse(0.1))
    found_db = other.s50_db + lag / (other.slope_per_db * steepness)
    return found_db - (fit.s50_db + lag / (fit.slope_per_db * steepness))


def _replace(path: Path, head: Mapping[str, Any], name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Replaces a file atomically by JSON with one line per row."""
    lines = ",\n    ".join(json.dumps(row) for row in rows)
    start = json.dumps(head, indent=2).removesuffix("\n}")
    whole = f'{start},\n  "{name}": [\n    {lines}\n  ]\n}}\n'
    beside = path.with_suffix(".new")
    beside.write_text(whole, encoding="utf-8")
    os.replace(beside, path)
