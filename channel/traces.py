"""Measured links, read and written: mahimahi's delivery times, and tables of rate, delay and loss.

Times are seconds from the trace's beginning. A trace whose times go back is refused.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from channel.errors import BadParameter
from channel.foreign import arrays_of, text_of
from channel.values import Array, above, at_least, within

MAHIMAHI_BYTES = 1500
"""What one line of a mahimahi trace delivers (manual page mm-link(1) of mahimahi 0.98)."""

COLUMNS = ("time_s", "rate_bps", "delay_s", "loss_rate")


@dataclass(frozen=True, kw_only=True, eq=False)
class LinkTrace:
    """Rate, delay and loss (K,) from each of `time_s` (K,) on, until the next; the last one stays.

    Raises BadParameter for an empty trace, lengths that differ, times that go back, and values out of range.
    """

    time_s: Array
    rate_bps: Array
    delay_s: Array
    loss_rate: Array

    def __post_init__(self) -> None:
        lengths = {name: np.shape(getattr(self, name)) for name in COLUMNS}
        if len(set(lengths.values())) != 1 or np.ndim(self.time_s) != 1 or not np.size(self.time_s):
            raise BadParameter(f"columns must be rows of one length, at least 1, got {lengths}")
        forward("time_s", self.time_s)
        at_least("rate_bps", self.rate_bps, 0.0)
        at_least("delay_s", self.delay_s, 0.0)
        within("loss_rate", self.loss_rate, 0.0, 1.0)

    def at(self, time_s: Array) -> dict[str, Array]:
        """The three values at these times. Raises BadParameter for one before the trace begins."""
        asked = at_least("time_s", time_s, float(self.time_s[0]))
        row = np.searchsorted(self.time_s, asked, side="right") - 1
        return {name: getattr(self, name)[row] for name in COLUMNS[1:]}


def read_csv(path: Path) -> LinkTrace:
    """A table with the header time_s,rate_bps,delay_s,loss_rate, in any order of columns."""
    rows = csv.DictReader(text_of(path).splitlines())
    try:
        table = list(rows)
    except csv.Error as error:
        raise BadParameter(f"{path.name} must be a table of commas: {error}") from error
    if set(rows.fieldnames or ()) != set(COLUMNS):
        raise BadParameter(f"{path.name} must have the columns {', '.join(COLUMNS)}, got {rows.fieldnames}")
    try:
        columns = {name: np.asarray([float(row[name]) for row in table]) for name in COLUMNS}
    except (TypeError, ValueError) as error:
        raise BadParameter(f"{path.name} must hold numbers only: {error}") from error
    return LinkTrace(**columns)


def write_csv(path: Path, trace: LinkTrace) -> None:
    """The same, written with all digits."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(COLUMNS)
        rows.writerows(zip(*(getattr(trace, name).tolist() for name in COLUMNS), strict=True))


def read_npz(path: Path) -> LinkTrace:
    """Arrays of these names from a .npz file; errors as in `arrays_of`."""
    found = arrays_of(path, dict.fromkeys(COLUMNS, "fiu"))
    return LinkTrace(**{name: found[name].astype(np.float64) for name in COLUMNS})


def write_npz(path: Path, trace: LinkTrace) -> None:
    """The same, written."""
    np.savez(path, **{name: getattr(trace, name) for name in COLUMNS})


def read_mahimahi(path: Path) -> Array:
    """The times in seconds at which a packet may leave, from lines of whole milliseconds."""
    text = text_of(path).split()
    try:
        times_ms = np.asarray([int(word) for word in text], dtype=np.float64)
    except ValueError as error:
        raise BadParameter(f"{path.name} must hold whole milliseconds: {error}") from error
    if not times_ms.size:
        raise BadParameter(f"{path.name} must have at least one line, got none")
    forward("times", times_ms)
    return times_ms / 1e3


def write_mahimahi(path: Path, delivered_bits_B: Array, bin_s: float) -> int:
    """Delivery times of 1,500-byte packets from the bits of each bin, and how many there are.

    A packet may leave in the millisecond in which its last bit did, bits arriving evenly within a bin.
    Raises BadParameter where not even one packet comes together: mahimahi cannot read an empty trace.
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


def forward(name: str, times: Array) -> None:
    """Raises BadParameter where times go back, or begin before 0."""
    back = np.flatnonzero(np.diff(times) < 0.0)
    if back.size:
        first = int(back[0]) + 1
        raise BadParameter(
            f"{name} must not go back, got {times[first]:g} after {times[first - 1]:g} in row {first}"
        )
    at_least(name, times, 0.0)
