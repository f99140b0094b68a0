"""What shows a run to a person while it is under way, and what shows nothing."""

from collections.abc import Mapping
from typing import Any, Protocol

from splitfl.core.metrics import JUDGES, METRICS
from splitfl.core.quantities import metric_text, seconds_text
from splitfl.server.run import Screen as RunScreen


class Screen(RunScreen, Protocol):
    """Shows a run, and which clients are still missing before it can start."""

    def waiting(self, address: str, missing: list[int]) -> None:
        """The server listens at this address, and these clients have not joined yet."""

    def said(self, what: str) -> None:
        """Something has happened that a person should know."""


class Silent:
    """A screen that shows nothing."""

    def waiting(self, address: str, missing: list[int]) -> None:
        """Shows nothing."""

    def said(self, what: str) -> None:
        """Shows nothing."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """Shows nothing."""

    def measured(self, row: Mapping[str, Any]) -> None:
        """Shows nothing."""


def round_figures(row: Mapping[str, Any]) -> dict[str, str]:
    """The metrics of a round's row in `metrics.jsonl` by name, as a person reads them."""
    figures = {"train loss": f"{row['train_loss']:.3f}"} if row["train_loss"] is not None else {}
    figures |= {"held-out loss": f"{row['eval_loss']:.3f}"} if "eval_loss" in row else {}
    names = [name for name in JUDGES if name in row]
    figures |= {METRICS[name].label.removeprefix("held-out "): metric_text(name, row[name]) for name in names}
    return figures | {"virtual clock": seconds_text(row["finish_s"])}
