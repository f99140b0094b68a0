"""The interface of client processes that run beside a server and that its caller starts."""

from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self


class Clients(Protocol):
    """Client processes, which the context ends at exit."""

    def dead(self) -> dict[int, str]:
        """The clients that have failed, each with a sentence about the cause."""

    def restart(self, client: int) -> None:
        """Restarts a failed client; raises PeerLost if it has failed repeatedly."""

    def wait(self, timeout_s: float) -> None:
        """Waits up to `timeout_s` for the clients to end."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


StartClients = Callable[[str, Path], Clients]
"""Starts the clients of the server at this address, in the run's folder."""


class NoClients:
    """No client processes: all clients run on other machines."""

    def dead(self) -> dict[int, str]:
        return {}

    def restart(self, client: int) -> None:
        """Does nothing: a client on another machine is restarted there."""

    def wait(self, timeout_s: float) -> None:
        """Returns at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Does nothing."""
