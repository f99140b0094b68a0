"""PyTorch RPC, the server's side; this, rpc_client.py and rpc_group.py are the only files that touch it.

RPC unpickles what it receives, so whoever reaches the port can run code here: closed
networks only. Frames themselves are bytes of our own format and are never unpickled.

The server's process hosts the key-value store at which everybody meets. A client reads
there what is to be run and claims its number before it enters the RPC group.
"""

import json
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import torch
from torch.distributed import TCPStore, rpc  # type: ignore[attr-defined]  # it does not list them
from torch.futures import Future

from splitfl.transport.interfaces import listening_address, refuse_taken
from splitfl.transport.rpc_group import SERVER, enter_group, leave_group, refuse_second_run
from splitfl.transport.seam import Handler, PeerChange
from splitfl.transport.versions import versions

_serving: dict[str, "RpcServer"] = {}  # RPC calls module functions, and knows one agent a process


class RpcServer:
    """The server's end: a meeting point first, then a group with one member for each client."""

    def __init__(self, host: str, port: int, clients: int, timeout_s: float, join_timeout_s: float) -> None:
        """Raises ConfigError for an address that cannot be published and a port that is taken."""
        refuse_second_run()
        self.host = listening_address(host)
        self.clients = clients
        self.timeout_s = timeout_s
        self.join_timeout_s = join_timeout_s
        self.heard_s: dict[int, float] = {}
        self.handler: Handler | None = None
        self._came: list[int] = []
        self._gone: set[int] = set()
        self.executor = ThreadPoolExecutor(clients + 1, thread_name_prefix="station")
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
        return [
            client for client in range(self.clients) if not self._store.check([f"splitfl/ready/{client}"])
        ]

    def start(self, handler: Handler) -> None:
        """Enters the group with all clients; answers frames from now on, in threads."""
        self.handler = handler
        _serving[SERVER] = self
        self.heard_s = dict.fromkeys(range(self.clients), time.monotonic())
        self._store.set("splitfl/go", "1")
        enter_group(self._store, SERVER, 0, self.clients + 1, self.host, self.timeout_s)
        self._came = list(range(self.clients))

    def silent(self) -> list[int]:
        """See ServerEnd: of whom nothing was heard for `timeout_s`."""
        now_s = time.monotonic()
        return [client for client, heard_s in self.heard_s.items() if now_s - heard_s > self.timeout_s]

    def changes(self) -> list[PeerChange]:
        """See ServerEnd. Who is gone cannot come back into a group of RPC."""
        reason = f"nothing was heard of it for {self.timeout_s:g} s"
        gone = sorted(set(self.silent()) - self._gone)
        self._gone.update(gone)
        came, self._came = self._came, []
        return [
            *(PeerChange(client=client, is_here=True, session=1, reason="it entered") for client in came),
            *(PeerChange(client=client, is_here=False, session=1, reason=reason) for client in gone),
        ]

    def stop(self) -> None:
        """Leaves the group without waiting for anybody."""
        leave_group()
        _serving.pop(SERVER, None)
        self.executor.shutdown(wait=False, cancel_futures=True)


@rpc.functions.async_execution  # type: ignore[untyped-decorator]
def answer_request(client: int, payload: torch.Tensor) -> Future[torch.Tensor]:
    """Runs in the server, called by clients."""
    future: Future[torch.Tensor] = Future()
    server = _serving[SERVER]
    server.heard_s[client] = time.monotonic()
    assert server.handler is not None

    def answer(frame: bytes) -> None:
        future.set_result(torch.frombuffer(bytearray(frame), dtype=torch.uint8))

    server.executor.submit(server.handler, client, payload.numpy().tobytes(), answer)
    return future


def hear_beat(client: int) -> None:
    """Runs in the server, called by clients: a sign of life."""
    _serving[SERVER].heard_s[client] = time.monotonic()
