"""What a process of a run has taken of memory, above what the libraries took to be imported."""

from typing import TypedDict

from splitfl.core.allocator import forget_peak, keep_freed_memory, peak_resident_bytes, resident_bytes


class Row(TypedDict):
    """The peak of one process, and from where it is counted."""

    side: str
    client: int | None
    peak_bytes: int
    base_bytes: int


def measure_from_here() -> int:
    """Memory is counted from what is resident now, which this returns."""
    keep_freed_memory()
    forget_peak()
    return resident_bytes()


def row(side: str, client: int | None, base_bytes: int) -> Row:
    """What this process has taken so far."""
    return {"side": side, "client": client, "peak_bytes": peak_resident_bytes(), "base_bytes": base_bytes}
