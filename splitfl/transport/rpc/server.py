"""PyTorch RPC, the server's end; only this package uses torch.distributed.rpc.

RPC unpickles received data, so any peer that reaches the port can execute code here: use it on closed
networks only. Frames are bytes of splitfl's own format and are never unpickled.

The server's process hosts the rendezvous store. A client reads the experiment from it, enters the
group and is admitted.
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

_serving: dict[str, "RpcServer"] = {}  # RPC calls module functions, with one agent per process


class RpcServer:
    """The server's end: the rendezvous store, and the centre of the star of clients."""

    def __init__(self, host: str, port: int, clients: int, timeout_s: float, join_timeout_s: float) -> None:
        """Raises ConfigError for an address that cannot be published and a port in use."""
        self.host = listening_address(host, "PyTorch RPC", takes_ipv6=False)
        self.clients = clients
        self.timeout_s = timeout_s
        self.join_timeout_s = join_timeout_s
        self.handler: Handler | None = None
        self.heartbeats = Heartbeats(clients, timeout_s)
        # Two per client, since a request of a lost process may still be in progress.
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
        return f"{self.host}:{self.port}"

    def offer(self, experiment: Mapping[str, Any]) -> None:
        hello = {
            **versions(),
            "clients": self.clients,
            "timeout_s": self.timeout_s,
            "join_timeout_s": self.join_timeout_s,
            "experiment": experiment,
        }
        self._store.set("splitfl/hello", json.dumps(hello))

    def missing(self) -> list[int]:
        return self.heartbeats.missing()

    def start(self, handler: Handler) -> None:
        self.handler = handler
        self.heartbeats.begin()
        self._store.set("splitfl/go", "1")

    def silent(self) -> list[int]:
        return self.heartbeats.silent()

    def changes(self) -> list[PeerChange]:
        return self.heartbeats.changes()

    def stop(self) -> None:
        """Leaves the group without waiting for clients."""
        leave_group()
        _serving.pop(SERVER, None)
        self.executor.shutdown(wait=False, cancel_futures=True)


Answered = torch.Tensor | str
"""The bytes of a reply, or the reason for its absence."""


@rpc.functions.async_execution  # type: ignore[untyped-decorator]
def answer_request(client: int, session: int, payload: torch.Tensor) -> Future[Answered]:
    """Handles a request; called by clients over RPC."""
    future: Future[Answered] = Future()
    server = _serving[SERVER]
    out = server.heartbeats.beat(client, session)
    if out or server.handler is None:
        future.set_result(out or f"client {client} sent a request before the run started")
        return future

    def answer(frame: bytes) -> None:
        future.set_result(torch.frombuffer(bytearray(frame), dtype=torch.uint8))

    server.executor.submit(server.handler, client, payload.numpy().tobytes(), answer)
    return future


def admit(client: int, waited_s: float) -> int:
    """See `Heartbeats.admit`; called by clients over RPC."""
    return _serving[SERVER].heartbeats.admit(client, waited_s)


def hear_beat(client: int, session: int) -> str:
    """See `Heartbeats.beat`; called by clients over RPC."""
    return _serving[SERVER].heartbeats.beat(client, session)


def hear_ready(client: int, session: int) -> str:
    """See `Heartbeats.ready`; called by clients over RPC."""
    return _serving[SERVER].heartbeats.ready(client, session)


def hear_leave(client: int, session: int) -> None:
    """See `Heartbeats.leave`; called by clients over RPC."""
    _serving[SERVER].heartbeats.leave(client, session)
