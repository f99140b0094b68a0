"""PyTorch RPC, the server's side; this, rpc_client.py and rpc_group.py are the only files that touch it.

RPC unpickles what it receives, so whoever reaches the port can run code here: closed
networks only. Frames themselves are bytes of our own format and are never unpickled.

The server's process hosts the key-value store at which everybody meets. A client reads
there what is to be run, enters the group and asks for its number.
"""

import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import TCPStore, rpc  # type: ignore[attr-defined]  # it does not list them
from torch.futures import Future

from splitfl.transport.base.interfaces import listening_address, refuse_taken
from splitfl.transport.base.transport import Handler, PeerChange
from splitfl.transport.base.versions import versions
from splitfl.transport.rpc.group import SERVER, enter_group, leave_group
from splitfl.transport.rpc.heartbeats import Heartbeats

_serving: dict[str, "RpcServer"] = {}  # RPC calls module functions, and knows one agent a process


class RpcServer:
    """The server's end: a meeting point, and the middle of a star of clients."""

    def __init__(self, host: str, port: int, clients: int, timeout_s: float, join_timeout_s: float) -> None:
        """Raises ConfigError for an address that cannot be published and a port that is taken."""
        self.host = listening_address(host, "PyTorch RPC", takes_ipv6=False)
        self.clients = clients
        self.timeout_s = timeout_s
        self.join_timeout_s = join_timeout_s
        self.handler: Handler | None = None
        self.attendance = Heartbeats(clients, timeout_s)
        # One more for each client, since what a lost process asked for may still be at work.
        self.executor = ThreadPoolExecutor(2 * clients, thread_name_prefix="server_loop")
        refuse_taken(self.host, port)
        self._store = TCPStore(
            self.host,
            port,
            is_master=True,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
            multi_tenant=True,
        )
        self.port = self._store.port
        enter_group(self._store, SERVER, 0, self.host, timeout_s)
        _serving[SERVER] = self

    @property
    def address(self) -> str:
        """See ServerEnd."""
        return f"{self.host}:{self.port}"

    def offer(self, experiment: Mapping[str, Any]) -> None:
        """See ServerEnd."""
        hello = {
            **versions(),
            "clients": self.clients,
            "timeout_s": self.timeout_s,
            "join_timeout_s": self.join_timeout_s,
            "experiment": experiment,
        }
        self._store.set("splitfl/hello", json.dumps(hello))

    def missing(self) -> list[int]:
        """See ServerEnd."""
        return self.attendance.missing()

    def start(self, handler: Handler) -> None:
        """See ServerEnd."""
        self.handler = handler
        self.attendance.begin()
        self._store.set("splitfl/go", "1")

    def silent(self) -> list[int]:
        """See ServerEnd."""
        return self.attendance.silent()

    def changes(self) -> list[PeerChange]:
        """See ServerEnd."""
        return self.attendance.changes()

    def stop(self) -> None:
        """Leaves the group without waiting for anybody."""
        leave_group()
        _serving.pop(SERVER, None)
        self.executor.shutdown(wait=False, cancel_futures=True)


Answered = torch.Tensor | str
"""The bytes of an answer, or why there is none."""


@rpc.functions.async_execution  # type: ignore[untyped-decorator]
def answer_request(client: int, session: int, payload: torch.Tensor) -> Future[Answered]:
    """Runs in the server, called by clients."""
    future: Future[Answered] = Future()
    server = _serving[SERVER]
    out = server.attendance.hear(client, session)
    if out or server.handler is None:
        future.set_result(out or f"client {client} asked before it was let go")
        return future

    def answer(frame: bytes) -> None:
        future.set_result(torch.frombuffer(bytearray(frame), dtype=torch.uint8))

    server.executor.submit(server.handler, client, payload.numpy().tobytes(), answer)
    return future


def admit(client: int, waited_s: float) -> int:
    """Runs in the server, called by who wants to be this client; see Attendance."""
    return _serving[SERVER].attendance.admit(client, waited_s)


def hear_beat(client: int, session: int) -> str:
    """Runs in the server, called by clients: a sign of life; see Attendance."""
    return _serving[SERVER].attendance.hear(client, session)


def hear_ready(client: int, session: int) -> str:
    """Runs in the server, called by clients that may be let go; see Attendance."""
    return _serving[SERVER].attendance.ready(client, session)


def hear_leave(client: int, session: int) -> None:
    """Runs in the server, called by clients that go."""
    _serving[SERVER].attendance.leave(client, session)
