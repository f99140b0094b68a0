"""An append-only file of simulated points, one JSON line each, from which an interrupted run resumes."""

import fcntl
import json
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from channel.calibration.simulation import ITERATIONS, BlerCurve
from channel.calibration.sweep import Point
from channel.core.errors import BadParameter


def provenance(seed: int) -> dict[str, Any]:
    """The settings and versions that all points of one file must share."""
    libraries = ("numpy", "numba")
    return {
        "seed": seed,
        "iterations": ITERATIONS,
        "versions": {name: version(name) for name in libraries},
    }


class Journal:
    """A file of JSON lines: the provenance, then the points. Locked against other writers while open."""

    def __init__(self, path: Path, head: Mapping[str, Any]) -> None:
        """Opens or creates the file.

        Raises BadParameter for another provenance, another format, and a file locked by another process.
        """
        self._file = path.open("a+", encoding="utf-8")
        try:
            self._points = self._taken_up(path, head)
        except BaseException:
            self._file.close()
            raise

    def known(self, curve: BlerCurve, snr_db: float) -> Point | None:
        """The point of this curve and SNR, or None."""
        return self._points.get((curve, snr_db))

    def add(self, point: Point) -> None:
        """Appends a point, unless its curve and SNR exist."""
        if self.known(point.curve, point.snr_db) is None:
            self._points[point.curve, point.snr_db] = point
            self._write(as_row(point))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def _taken_up(self, path: Path, head: Mapping[str, Any]) -> dict[tuple[BlerCurve, float], Point]:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BadParameter(f"{path} is being written by another process") from None
        self._file.seek(0)
        whole, newline, torn = self._file.read().rpartition("\n")
        if torn:  # an incomplete last line of a killed process
            self._file.truncate(len((whole + newline).encode()))
        if not whole:
            self._write(head)
        made, points = read_lines(path, whole.splitlines() or [json.dumps(head)])
        if made != dict(head):
            raise BadParameter(f"{path} must have been made with {dict(head)}, got {made}")
        return points

    def _write(self, row: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(row) + "\n")
        self._file.flush()


def read_lines(path: Path, lines: list[str]) -> tuple[dict[str, Any], dict[tuple[BlerCurve, float], Point]]:
    """The provenance, and the points by curve and SNR. Raises BadParameter for another format."""
    try:
        head, *rows = [json.loads(line) for line in lines]
        points = [from_row(row) for row in rows]
    except (ValueError, TypeError, KeyError) as error:
        raise BadParameter(f"{path} must be the JSON lines of a simulation: {error!r}") from None
    return head, {(point.curve, point.snr_db): point for point in points}


def as_row(point: Point) -> dict[str, Any]:
    """A point as a JSON object."""
    return {
        "modulation_order": point.curve.modulation_order,
        "code_rate_1024": point.curve.code_rate_1024,
        "bits": point.curve.bits,
        "snr_db": point.snr_db,
        "blocks": point.blocks,
        "errors": point.errors,
    }


def from_row(row: Mapping[str, Any]) -> Point:
    """The inverse of `as_row`."""
    curve = BlerCurve(int(row["modulation_order"]), float(row["code_rate_1024"]), int(row["bits"]))
    return Point(curve, float(row["snr_db"]), int(row["blocks"]), int(row["errors"]))
