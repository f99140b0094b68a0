"""The absences of clients in a run that continued without them, from its `metrics.jsonl`.

An `absent` row has the lap from which on a client missed its turns of a round, a `back` row the last
round completed in the checkpoint that a returning client restored (-1: none).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """(client, round) -> first missed lap, and (client, round) -> last round of the restored checkpoint."""

    absent: Mapping[tuple[int, int], int] = field(default_factory=dict)
    back: Mapping[tuple[int, int], int] = field(default_factory=dict)

    @classmethod
    def read(cls, rows: Iterable[Mapping[str, Any]]) -> Self:
        """From the rows of a run's events."""
        rows = list(rows)
        return cls(
            absent={(row["client"], row["round"]): row["lap"] for row in rows if row["event"] == "absent"},
            back={(row["client"], row["round"]): row["kept"] for row in rows if row["event"] == "back"},
        )
