"""Servers and clients of every transport, gone when their test is over.

The connector within one process is none of them: there a frame is handed over by a call, and nobody is at the
other end who could come, die or be slow. That it gives the same bits is `test_transports_are_equal`'s affair.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from splitfl.config import TransportConfig, chosen
from splitfl.core.errors import SplitflError
from splitfl.transport.base.addresses import address_over
from splitfl.transport.base.spec import Joining
from splitfl.transport.registry import TRANSPORTS, between_processes
from tests.splitfl.transport.broker_process import BrokerProcess
from tests.splitfl.transport.conformance.ends import Client, Far, Server
from tests.splitfl.transport.faulty import Relay

TIMEOUT_S = 4.0
QUICK = "grpc"
ALL = [pytest.param(name, marks=[] if name == QUICK else [pytest.mark.slow]) for name in between_processes()]
RESUMING = [one for one in ALL if TRANSPORTS[str(one.values[0])].resumes]
"""Of these a process has several ends; of the others, such as RPC, each case takes seconds to meet."""
COMBINED = ("rpc", "grpc")
"""The transports of the two clients where a server has several."""


class Place:
    """One transport; ends are made near, in this process, where it can have several there."""

    def __init__(self, name: str, broker: "Callable[[], BrokerProcess]", stack: ExitStack) -> None:
        self.name = name
        self._broker, self._stack = broker, stack
        self.spec = TRANSPORTS[name]
        self.is_near = self.spec.resumes  # else a process joins once

    def server(self, *, is_far: bool = False, **settings: Any) -> Any:
        """A server for two clients."""
        port: dict[str, Any] = {} if self.spec.own_host else {"port": self._broker().port}
        port |= {"clients": COMBINED} if self.spec.combines else {}
        values = {"name": self.name, "timeout_s": TIMEOUT_S, "join_timeout_s": 30.0, **port, **settings}
        config = chosen(TransportConfig, [self.spec.settings], values)
        if self.is_near and not is_far:
            made: Any = Server(config)
            self._stack.callback(_gently, made.stop)
        else:
            made = Far(Server, config)
            self._stack.callback(made.kill)
        return made

    def client(self, address: str, number: int, *, is_far: bool = False, timeout_s: float = 10.0) -> Any:
        """A client of the server there."""
        name = COMBINED[number] if self.spec.combines else self.name
        joining = Joining(address=address_over(name, address), client=number, timeout_s=timeout_s)
        if self.is_near and not is_far:
            made: Any = Client(name, joining)
            self._stack.callback(_gently, made.leave)
        else:
            made = Far(Client, name, joining)
            self._stack.callback(made.kill)
        return made

    def relay(self, address: str) -> Relay:
        """A bad network on the way to the server, or to its broker."""
        port = int(address.partition("/")[0].rpartition(":")[2])
        return self._stack.enter_context(Relay(("127.0.0.1", port)))


def _gently(end: Callable[[], None]) -> None:
    with suppress(SplitflError, OSError, AssertionError, EOFError):
        end()


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[], BrokerProcess]]:
    """Starts a broker when the first asks for it."""
    started: list[BrokerProcess] = []

    def get() -> BrokerProcess:
        if not started:
            started.append(BrokerProcess(tmp_path_factory.mktemp("broker")))
        return started[0]

    yield get
    for one in started:
        one.stop()


@pytest.fixture
def place(request: pytest.FixtureRequest, broker: Callable[[], BrokerProcess]) -> Iterator[Place]:
    """The transport that the test is given as `place`."""
    with ExitStack() as stack:
        yield Place(request.param, broker, stack)
