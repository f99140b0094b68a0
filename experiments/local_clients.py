"""Who runs on this machine beside the server: clients as processes, at the ends of a live link, or nobody."""

from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from splitfl.config import RunConfig, TransportConfig
from splitfl.core.errors import ConfigError
from splitfl.transport.base.transport import ServerEnd
from testbed.live import LiveClients, LiveLink
from testbed.local import LocalClients


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


class NoClients:
    """In place of local clients where all of them are on other machines."""

    def dead(self) -> dict[int, str]:
        """Nothing is known of processes elsewhere."""
        return {}

    def revive(self, client: int) -> None:
        """Whoever has started them elsewhere may start them again."""

    def wait(self, timeout_s: float) -> None:
        """There is nobody to wait for."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """There is nobody to end."""


def local_clients(
    server: ServerEnd, config: RunConfig, folder: Path, spawn: bool, live: LiveLink | None
) -> Clients:
    """The clients of this run that are to run here."""
    if not spawn:
        return NoClients()
    clients, threads, options = config.federation.clients, config.client.threads, _own_words(config.transport)
    if live is not None:
        return LiveClients(live, server.address, clients, threads, folder, options)
    return LocalClients(server.address, clients, threads, folder, options=options)


def _own_words(config: TransportConfig) -> list[str]:
    """How a client that is started here says by which transport it joins, and where its secrets are.

    Raises ConfigError where the settings name the server's files only.
    """
    if config.name == "rpc":
        return []
    words = ["--transport", config.name]
    if config.name == "grpc":
        if config.tls_cert:
            raise ConfigError(
                "the clients that `run` starts find their files in transport.secrets: name that folder"
            )
        return words + (["--secrets", config.secrets] if config.secrets else [])
    given = {"--user": config.user, "--password-file": config.password_file, "--tls-ca": config.tls_ca}
    given |= {"--tls-cert": config.tls_cert, "--tls-key": config.tls_key}
    return words + [word for option, value in given.items() if value for word in (option, value)]
