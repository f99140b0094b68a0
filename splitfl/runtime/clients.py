"""The clients that run beside a server: what a server asks of the processes that its caller starts."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


class Clients(Protocol):
    """Processes of clients; leaving the context ends them."""

    def dead(self) -> dict[int, str]:
        """What became of each client that has ended badly, in a sentence."""

    def revive(self, client: int) -> None:
        """Starts a client that has ended badly once more; PeerLost where that has been of no use before."""

    def wait(self, timeout_s: float) -> None:
        """Gives the clients so long to end by themselves."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


StartClients = Callable[[str, Path], Clients]
"""Starts the clients of the server at this address, in the run's folder."""


class NoClients:
    """In place of the server's own clients where all of them are started on other machines."""

    def dead(self) -> dict[int, str]:
        return {}

    def revive(self, client: int) -> None:
        """Does nothing: a client on another machine is restarted there."""

    def wait(self, timeout_s: float) -> None:
        """Returns at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Ends nothing."""
