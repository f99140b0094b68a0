"""Memory of a run's processes, above that after importing the libraries."""

from typing import TypedDict

from splitfl.core.allocator import forget_peak, keep_freed_memory, peak_resident_bytes, resident_bytes


class MemoryRow(TypedDict):
    """Peak and initial resident memory of one process, in bytes."""

    side: str
    client: int | None
    peak_bytes: int
    base_bytes: int


def measure_from_here() -> int:
    """Resets the peak; returns the resident memory from which it is counted, in bytes."""
    keep_freed_memory()
    forget_peak()
    return resident_bytes()


def row(side: str, client: int | None, base_bytes: int) -> MemoryRow:
    """This process's row so far."""
    return {"side": side, "client": client, "peak_bytes": peak_resident_bytes(), "base_bytes": base_bytes}
