"""A transport as a plug-in: its two ends, and all that commands, report, doctor and tests ask about it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from splitfl.config import NoSettings, TransportConfig
from splitfl.config.plugin import check_settings_type
from splitfl.transport.base.reachability import Diagnosis, Reach
from splitfl.transport.base.transport import ClientEnd, ServerEnd
from splitfl.transport.security.credentials import Credentials


@dataclass(frozen=True, kw_only=True)
class Joining:
    """The server that a client joins, the client's number, and the files that prove its identity.

    `user` and `password_file` are a broker's. The server is looked for during `timeout_s`.
    """

    address: str
    client: int
    timeout_s: float
    credentials: Credentials = field(default_factory=Credentials)
    user: str = ""
    password_file: str = ""


def location(address: str) -> dict[str, Any]:
    """The settings with which a server listens at this address again: its port, and a broker's topic."""
    reached, _, topic = address.partition("/")
    return {"port": int(reached.rpartition(":")[2])} | ({"topic": topic} if topic else {})


@dataclass(frozen=True, kw_only=True)
class TransportSpec:
    """One transport. A package registers another by an entry point of the group `splitfl.transports`.

    `serve` takes the settings and the number of clients; `check_server` and `check_join` raise the
    ConfigError that `serve` and `join` would, without importing torch. `settings` is the type of its own
    settings, a frozen dataclass whose fields are its keys of [transport] beside those of every transport;
    `splitfl join` refuses the options of other keys. `join_options` are the options that a client on the
    server's machine joins with, beside the name and the address. `diagnose` is None where the doctor cannot
    tell.

    Where it is `in_process`, server and clients share one thread and `serve` and `join` refuse. Where it has
    a `describe_link`, a `Carrier` takes the place of the emulated link, and this is a sentence about it.
    Where it `resumes`, a broken connection continues in a new one; else a client that has lost it ends, since
    a process joins only once. Where it does not use the server's `own_host`, host and port are a broker's.

    Where it `combines` others, clients join over these; `of_client` gives the settings of a client's own.
    `location` has the settings of a resumed server, from the address of the interrupted one. `encrypts` tells
    whether these settings encrypt what crosses (TLS).
    """

    about: str
    describe: str
    serve: Callable[[TransportConfig, int], ServerEnd]
    join: Callable[[Joining], ClientEnd]
    check_server: Callable[[TransportConfig], None]
    check_join: Callable[[Joining], None]
    join_options: Callable[[TransportConfig], list[str]] = lambda config: []
    settings: type = NoSettings
    in_process: bool = False
    describe_link: Callable[[TransportConfig], str] | None = None
    resumes: bool = False
    own_host: bool = True
    combines: tuple[str, ...] = ()
    of_client: Callable[[TransportConfig, int], TransportConfig] = lambda config, client: config
    location: Callable[[str], dict[str, Any]] = location
    warning: Callable[[TransportConfig], str] = lambda config: ""
    encrypts: Callable[[TransportConfig], bool] = lambda config: False
    diagnose: Callable[[Reach], Diagnosis] | None = None

    def __post_init__(self) -> None:
        check_settings_type("TransportSpec.settings", self.settings, TransportConfig)
