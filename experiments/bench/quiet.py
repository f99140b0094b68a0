"""A run's two sides for a benchmark: a client that says nothing, and a screen that shows nothing."""

from collections.abc import Mapping
from typing import Any

from experiments import joining
from splitfl.transport.registry import Joining, transport

PATIENCE_S = 120.0


class QuietScreen:
    """See experiments.serving.Screen."""

    def waiting(self, address: str, missing: list[int]) -> None:
        """See Screen."""

    def said(self, what: str) -> None:
        """See Screen."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Screen."""

    def measured(self, row: Mapping[str, Any]) -> None:
        """See Screen."""


def take_part(name: str, address: str, client: int) -> None:
    """This client's part in the run there, to its end."""
    joining.join(
        transport(name),
        Joining(address=address, client=client, timeout_s=PATIENCE_S),
        state=None,
        adjust=lambda config: config,
        on_step=lambda round_index, message: None,
        on_begin=lambda config: None,
        on_away=lambda why: None,
    )
