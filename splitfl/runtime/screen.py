"""The interface of progress displays, and one without output."""

from collections.abc import Mapping
from typing import Any, Protocol

from splitfl.core.metrics import JUDGES, METRICS
from splitfl.core.quantities import metric_text, seconds_text
from splitfl.server.run import ProgressDisplay


class Screen(ProgressDisplay, Protocol):
    """Shows a run's progress, missing clients and notes."""

    def waiting(self, address: str, missing: list[int]) -> None:
        """The server listens at this address, and these clients have not joined yet."""

    def note(self, what: str) -> None:
        """Shows a note, for example on a lost client."""

    def live(self, figures: str) -> None:
        """Shows these figures beside the progress, in place of earlier ones."""


class Silent:
    """A screen that shows nothing."""

    def waiting(self, address: str, missing: list[int]) -> None:
        """Shows nothing."""

    def note(self, what: str) -> None:
        """Shows nothing."""

    def live(self, figures: str) -> None:
        """Shows nothing."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """Shows nothing."""

    def measured(self, row: Mapping[str, Any]) -> None:
        """Shows nothing."""


def round_figures(row: Mapping[str, Any]) -> dict[str, str]:
    """The metrics of a round's row in `metrics.jsonl`, as texts by name."""
    figures = {"train loss": f"{row['train_loss']:.3f}"} if row["train_loss"] is not None else {}
    figures |= {"held-out loss": f"{row['eval_loss']:.3f}"} if "eval_loss" in row else {}
    names = [name for name in JUDGES if name in row]
    figures |= {METRICS[name].label.removeprefix("held-out "): metric_text(name, row[name]) for name in names}
    return figures | {"virtual clock": seconds_text(row["finish_s"])}
