"""Who was away when in a run that went on without some of its clients, as its `metrics.jsonl` says it.

`absent` rows say from which lap on a client's turns of a round went by, `back` rows after which
round a client that goes on with another was last kept (-1: it begins as new).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """From (client, round) to a lap, and to the round after which the client was kept."""

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
