"""Readers and writers of measured links: mahimahi traces, and tables of rate, delay and loss.

Times are seconds from the start of the trace. A trace whose times decrease is refused.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from channel.core.arrays import Array, above, at_least, within
from channel.core.errors import BadParameter
from channel.core.input_files import arrays_of, lines_of
from channel.links.csv_table import columns_of
from channel.links.plausibility import require_plausible, require_relative_ms

MAHIMAHI_BYTES = 1500
"""The bytes of one delivery opportunity, a line of a mahimahi trace (man page mm-link(1), mahimahi 0.98)."""

COLUMNS = ("time_s", "rate_bps", "delay_s", "loss_rate")
_MAX_DIGITS = 18


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkTrace:
    """Piecewise constant rate, delay and loss (K,), each valid from its `time_s` (K,) to the next.

    The last row holds for ever. `ignored` names the other columns of its file. Raises BadParameter for an
    empty trace, lengths that differ, decreasing times, and values out of range.
    """

    time_s: Array
    rate_bps: Array
    delay_s: Array
    loss_rate: Array
    ignored: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        _require_rows({name: getattr(self, name) for name in COLUMNS})
        require_nondecreasing("time_s", self.time_s)
        at_least("rate_bps", self.rate_bps, 0.0)
        at_least("delay_s", self.delay_s, 0.0)
        within("loss_rate", self.loss_rate, 0.0, 1.0)

    def at(self, time_s: Array) -> dict[str, Array]:
        """Rate, delay and loss at these times. Raises BadParameter for a time before the trace starts."""
        asked = at_least("time_s", time_s, float(self.time_s[0]))
        row = np.searchsorted(self.time_s, asked, side="right") - 1
        return {name: getattr(self, name)[row] for name in COLUMNS[1:]}


def read_csv(path: Path) -> LinkTrace:
    """A table with the columns time_s, rate_bps, delay_s and loss_rate, in any order; others are ignored.

    Errors as in `csv_table.columns_of`, and BadParameter for values that are implausible in their units.
    """
    columns, others = columns_of(path, COLUMNS)
    return _read(path, columns, others)


def write_csv(path: Path, trace: LinkTrace, *, separator: str = ",") -> None:
    """Writes a trace as CSV, at full precision."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file, delimiter=separator)
        rows.writerow(COLUMNS)
        rows.writerows(zip(*(getattr(trace, name).tolist() for name in COLUMNS), strict=True))


def write_tsv(path: Path, trace: LinkTrace) -> None:
    """Writes a trace as TSV, at full precision."""
    write_csv(path, trace, separator="\t")


def read_npz(path: Path) -> LinkTrace:
    """A trace from the arrays of a .npz file; errors as in `arrays_of` and for implausible values."""
    found = arrays_of(path, dict.fromkeys(COLUMNS, "fiu"))
    return _read(path, {name: found[name].astype(np.float64) for name in COLUMNS})


def write_npz(path: Path, trace: LinkTrace) -> None:
    """Writes a trace as .npz, in the format of `read_npz`."""
    with path.open("wb") as file:  # given a name, numpy would append .npz to it
        np.savez(file, **{name: getattr(trace, name) for name in COLUMNS})


def read_mahimahi(path: Path) -> Array:
    """The delivery opportunities in seconds, from lines of whole milliseconds.

    Raises BadParameter, with the line, for anything else, and for times that do not start near 0.
    """
    lines = lines_of(path)
    if not lines:
        raise BadParameter(f"{path.name} must have at least one line, got none")
    times_ms = np.asarray([_milliseconds(path, number, line) for number, line in lines], dtype=np.float64)
    require_nondecreasing("times", times_ms)
    require_relative_ms(path.name, times_ms)
    if not times_ms[-1]:
        raise BadParameter(
            f"{path.name} must end after 0 ms: its last time is its period, after which it repeats"
        )
    return times_ms / 1e3


def write_mahimahi(path: Path, delivered_bits_B: Array, bin_s: float) -> int:
    """Writes the delivery opportunities for the bits (B,) of each bin, 1,500 bytes each; returns their count.

    An opportunity lies in the millisecond of its last bit, with bits spread evenly over a bin.
    Raises BadParameter if the bits fill no packet: mahimahi cannot read an empty trace.
    """
    at_least("delivered_bits_B", delivered_bits_B, 0.0)
    total = np.concatenate([[0.0], np.cumsum(delivered_bits_B)])
    size = 8.0 * MAHIMAHI_BYTES
    wanted = size * np.arange(1, int(total[-1] // size) + 1)
    if not wanted.size:
        raise BadParameter(f"a mahimahi trace needs at least {size:g} bits, got {total[-1]:g}")
    row = np.searchsorted(total, wanted, side="left") - 1
    share = (wanted - total[row]) / (total[row + 1] - total[row])
    times_ms = np.ceil((row + share) * float(above("bin_s", bin_s, 0.0)) * 1e3 - 1e-9).astype(np.int64)
    path.write_text("".join(f"{moment}\n" for moment in times_ms), encoding="utf-8")
    return int(times_ms.size)


def _read(path: Path, columns: dict[str, Array], others: tuple[str, ...] = ()) -> LinkTrace:
    try:
        _require_rows(columns)
        require_plausible(**columns)
        return LinkTrace(**columns, ignored=others)
    except BadParameter as error:
        raise BadParameter(f"{path.name}: {error}") from None


def _require_rows(columns: dict[str, Array]) -> None:
    """Raises BadParameter for columns that are not vectors of one length, and for columns without a row."""
    shapes = {name: np.shape(column) for name, column in columns.items()}
    if len(set(shapes.values())) != 1 or len(shapes["time_s"]) != 1:
        raise BadParameter(f"columns must be vectors of one length, got the shapes {shapes}")
    if not shapes["time_s"][0]:
        raise BadParameter("columns must have at least one row, got none")


def _milliseconds(path: Path, number: int, line: str) -> int:
    if not line.isascii() or not line.isdigit() or len(line) > _MAX_DIGITS:
        is_table = not line[0].isdigit() and any(name in line.lower() for name in COLUMNS)
        why = "; a table of rates has a name that ends in .csv" if is_table else ""
        raise BadParameter(
            f"{path.name} must hold whole milliseconds, one per line, got {line[:40]!r} in line {number}{why}"
        )
    return int(line)


def require_nondecreasing(name: str, times: Array) -> None:
    """Raises BadParameter if times decrease or are negative."""
    back = np.flatnonzero(np.diff(times) < 0.0)
    if back.size:
        first = int(back[0]) + 1
        raise BadParameter(
            f"{name} must not decrease, got {times[first]:g} after {times[first - 1]:g} in row {first}"
        )
    at_least(name, times, 0.0)
