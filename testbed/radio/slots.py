"""Which nodes may send when, on a clock that all of them share."""

from dataclasses import dataclass

from splitfl.core.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class SlotTable:
    """Slots of `length` samples that repeat; node n may send in slot s where `rows`[s][n] is 1.

    What a node sends ends `gap` samples before the end of its slot, unless the next slot is its own, too.
    Raises ConfigError for a table that is not of 0 and 1, or in which a node never sends.
    """

    rows: tuple[str, ...]
    length: int
    gap: int

    def __post_init__(self) -> None:
        widths = {len(row) for row in self.rows}
        if len(widths) != 1 or not set("".join(self.rows)) <= {"0", "1"}:
            raise ConfigError(f"slots must be rows of a 0 or 1 for each node, got {', '.join(self.rows)}")
        silent = [node for node in range(widths.pop()) if not any(row[node] == "1" for row in self.rows)]
        if silent:
            raise ConfigError(f"slots must let every node send, but node {silent[0]} never may")

    @property
    def cycle(self) -> int:
        """The samples after which the table repeats."""
        return len(self.rows) * self.length

    def opening(self, node: int, free: int, size: int) -> int:
        """The first sample from `free` on at which the node may begin a burst of `size` samples.

        A burst that fits into no run of the node's slots raises ConfigError.
        """
        slot, slots = free // self.length, len(self.rows)
        if all(self._may_send(node, one) for one in range(slots)):
            return free
        for begin in range(slot, slot + slots + 1):
            end = begin
            while self._may_send(node, end):
                end += 1
            at = max(begin * self.length, free)
            if at + size <= end * self.length - self.gap:
                return at
        raise ConfigError(
            f"slots of {self.length} samples are too short for a burst of {size} and a gap of {self.gap}"
        )

    def _may_send(self, node: int, slot: int) -> bool:
        return self.rows[slot % len(self.rows)][node] == "1"
