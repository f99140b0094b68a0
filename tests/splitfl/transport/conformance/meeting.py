"""How the conformance cases bring a server and its clients together, and on which transports."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from tests.splitfl.transport.conformance.conftest import ALL, RESUMING, Place
from tests.testbed.waiting import until

MIB = 1 << 20
everywhere = pytest.mark.parametrize("place", ALL, indirect=True)
several_in_a_process = pytest.mark.parametrize("place", RESUMING, indirect=True)
where_broken_connections_are_gone_on_from = pytest.mark.parametrize("place", RESUMING, indirect=True)
"""For what a relay in between does. RPC's connections lead to ports that nobody can stand in for and are
never gone on from: what breaks by the doing of its own process is shown of every transport beside these."""


def go(server: Any, *clients: Any) -> None:
    """Lets the clients go, who are all there are."""
    with ThreadPoolExecutor(len(clients)) as pool:
        entering = [pool.submit(client.enter) for client in clients]
        until(lambda: not server.missing())
        server.start()
        for one in entering:
            one.result()


def both(place: Place, **settings: Any) -> tuple[Any, Any, Any]:
    """A server and its two clients, let go."""
    server = place.server(**settings)
    clients = [place.client(server.address(), number) for number in range(2)]
    go(server, *clients)
    return server, clients[0], clients[1]


def in_thread(work: Callable[..., Any], *arguments: Any) -> "Any":
    """Its result, or its error, to be waited for."""
    return ThreadPoolExecutor(1).submit(work, *arguments)


def until_admitted(place: Place, server: Any, number: int) -> Any:
    """A client that comes as soon as the one before of its number is known to be gone."""

    def come() -> Any:
        try:
            return place.client(server.address(), number)
        except ConfigError:
            return None

    return until(come)


def relay_target(server: Any) -> int:
    return int(server.address().partition("/")[0].rpartition(":")[2])
