"""What shows a run to a person while it goes on, and what shows nothing."""

from collections.abc import Mapping
from typing import Any, Protocol

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
