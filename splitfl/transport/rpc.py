"""PyTorch RPC: the only file that touches it.

RPC unpickles what it receives, so whoever reaches the port can run code here: closed
networks only. Frames themselves are bytes of our own format and are never unpickled.

The server's process hosts the key-value store at which everybody meets. A client reads
there what is to be run and claims its number before it enters the RPC group.
"""

import json
import logging
import os
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import torch
from torch.distributed import DistError, TCPStore, rpc  # type: ignore[attr-defined]  # it does not list them
from torch.distributed.rendezvous import register_rendezvous_handler
from torch.futures import Future

from splitfl.errors import ConfigError, PeerLost, Timeout
from splitfl.transport.interfaces import address_towards, interface_of, listening_address

log = logging.getLogger(__name__)

WARNING: Final = "PyTorch RPC trusts whoever reaches its port: use it on closed networks only"
PROTOCOL: Final = "1"
_SERVER: Final = "server"
_SCHEME: Final = "splitfl"
_POLL_S: Final = 0.1
_BEAT_S: Final = 5.0

Handler = Callable[[bytes, Callable[[bytes], None]], None]
"""Takes a frame and answers it by one call."""

_serving: dict[str, "RpcServer"] = {}  # RPC calls module functions, and knows one agent a process


class RpcServer:
    """The server's end: a meeting point first, then a group with one member for each client."""

    def __init__(self, host: str, port: int, clients: int, timeout_s: float, join_timeout_s: float) -> None:
        """Raises ConfigError for an address that cannot be published and a port that is taken."""
        _refuse_second_run()
        self.address = listening_address(host)
        self.clients = clients
        self.timeout_s = timeout_s
        self.join_timeout_s = join_timeout_s
        self.heard_s: dict[int, float] = {}
        self.handler: Handler | None = None
        self.executor = ThreadPoolExecutor(clients + 1, thread_name_prefix="station")
        _refuse_taken(self.address, port)
        self._store = TCPStore(
            self.address,
            port,
            is_master=True,
            timeout=timedelta(seconds=timeout_s),
            wait_for_workers=False,
            multi_tenant=True,
        )
        self.port = self._store.port

    def offer(self, experiment: Mapping[str, Any]) -> None:
        """Puts up what is to be run, for clients to read."""
        hello = {
            "protocol": PROTOCOL,
            "torch": _torch_version(),
            "clients": self.clients,
            "timeout_s": self.timeout_s,
            "join_timeout_s": self.join_timeout_s,
            "experiment": experiment,
        }
        self._store.set("splitfl/hello", json.dumps(hello))

    def missing(self) -> list[int]:
        """The clients that are not ready yet."""
        return [
            client for client in range(self.clients) if not self._store.check([f"splitfl/ready/{client}"])
        ]

    def start(self, handler: Handler) -> None:
        """Enters the group with all clients; answers frames from now on, in threads."""
        self.handler = handler
        _serving[_SERVER] = self
        self.heard_s = dict.fromkeys(range(self.clients), time.monotonic())
        self._store.set("splitfl/go", "1")
        _enter(self._store, _SERVER, 0, self.clients + 1, self.address, self.timeout_s)

    def silent(self) -> list[int]:
        """Clients of whom nothing was heard for `timeout_s`."""
        now_s = time.monotonic()
        return [client for client, heard_s in self.heard_s.items() if now_s - heard_s > self.timeout_s]

    def stop(self) -> None:
        """Leaves the group without waiting for anybody."""
        _leave()
        _serving.pop(_SERVER, None)
        self.executor.shutdown(wait=False, cancel_futures=True)


class RpcClient:
    """A client's end: one request, one reply, and a sign of life in between.

    How long an answer takes says nothing, since the server may wait for slower clients.
    It is lost when it does not even acknowledge a sign of life within `timeout_s`.
    """

    def __init__(self, host: str, port: int, client: int, timeout_s: float) -> None:
        """Finds the server and reads what is to be run.

        Raises Timeout where nobody listens, ConfigError where the two sides do not fit or
        another has come as this client already.
        """
        _refuse_second_run()
        self._host, self._port, self._client = host, port, client
        _await_listener(host, port, timeout_s)
        self._store, hello = _found(host, port, timeout_s)
        self._clients = int(hello["clients"])
        self._check(hello)
        self.timeout_s = float(hello["timeout_s"])
        self.experiment: dict[str, Any] = hello["experiment"]
        self._join_timeout_s = float(hello["join_timeout_s"])
        self._over = threading.Event()
        self._is_in = False
        self._lost: PeerLost | None = None
        if self._store.add(f"splitfl/claim/{client}", 1) > 1:
            self.leave()
            raise ConfigError(f"another client {client} has joined {host}:{port} already")

    def enter(self) -> None:
        """Says that this client is ready, waits for the others, and enters the group with them.

        The group's own rendezvous would give up on clients that come minutes apart.
        """
        try:
            self._store.set(f"splitfl/ready/{self._client}", "1")
            deadline_s = time.monotonic() + self._join_timeout_s
            while not self._store.check(["splitfl/go"]):
                if time.monotonic() > deadline_s:
                    raise Timeout(f"the other clients did not come within {self._join_timeout_s:g} s")
                time.sleep(_POLL_S)
        except DistError as error:
            raise self._gone(error) from None
        self._is_in = True
        own = address_towards(self._host, self._port)
        name, rank = f"client-{self._client}", self._client + 1
        _enter(self._store, name, rank, self._clients + 1, own, self.timeout_s)
        threading.Thread(target=self._beat, name="signs-of-life", daemon=True).start()

    def request(self, frame: bytes) -> bytes:
        """The server's answer; Timeout or PeerLost where none comes."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the buffer is read-only, and only read
            payload = torch.frombuffer(frame, dtype=torch.uint8)
        answered = threading.Event()
        try:
            future = rpc.rpc_async(_SERVER, _answer, args=(self._client, payload), timeout=0)
            future.add_done_callback(lambda _: answered.set())
            while not answered.wait(_POLL_S):
                if self._lost is not None:
                    raise self._lost
            reply = future.value()
        except RuntimeError as error:
            raise self._lost or self._gone(error) from None
        assert isinstance(reply, torch.Tensor)
        return reply.numpy().tobytes()

    def leave(self) -> None:
        """Leaves without waiting for anybody; one that never entered may come again."""
        self._over.set()
        if self._is_in:
            _leave()
        else:
            with suppress(DistError):
                self._store.add(f"splitfl/claim/{self._client}", -1)

    def _beat(self) -> None:
        while not self._over.wait(min(_BEAT_S, self.timeout_s / 4)):
            try:
                rpc.rpc_sync(_SERVER, _hear, args=(self._client,), timeout=self.timeout_s)
            except RuntimeError as error:
                if not self._over.is_set():
                    self._lost = self._gone(error)
                return

    def _gone(self, error: RuntimeError) -> PeerLost:
        reason = _first_line(error)
        if "timeout" in reason.lower() or "timed out" in reason.lower():
            return Timeout(f"the server at {self._host}:{self._port} was silent for {self.timeout_s:g} s")
        return PeerLost(f"the server at {self._host}:{self._port} went away ({reason})")

    def _check(self, hello: Mapping[str, Any]) -> None:
        pairs = (("protocol", hello["protocol"], PROTOCOL), ("torch", hello["torch"], _torch_version()))
        for what, theirs, own in pairs:
            if theirs != own:
                raise ConfigError(
                    f"the server runs {what} {theirs} and this client {own}; they must be the same"
                )
        if not 0 <= self._client < self._clients:
            raise ConfigError(f"the client must lie in 0..{self._clients - 1}, got {self._client}")


@rpc.functions.async_execution  # type: ignore[untyped-decorator]
def _answer(client: int, payload: torch.Tensor) -> Future[torch.Tensor]:
    """Runs in the server, called by clients."""
    future: Future[torch.Tensor] = Future()
    server = _serving[_SERVER]
    server.heard_s[client] = time.monotonic()
    assert server.handler is not None

    def answer(frame: bytes) -> None:
        future.set_result(torch.frombuffer(bytearray(frame), dtype=torch.uint8))

    server.executor.submit(server.handler, payload.numpy().tobytes(), answer)
    return future


def _hear(client: int) -> None:
    """Runs in the server, called by clients: a sign of life."""
    _serving[_SERVER].heard_s[client] = time.monotonic()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def _torch_version() -> str:
    return torch.__version__.partition("+")[0]


def _enter(store: TCPStore, name: str, rank: int, world: int, own: str, timeout_s: float) -> None:
    # Both variables, or the address of the host's own name is published. TCP only: the
    # shared-memory transports spin while they wait and double the CPU time of a step.
    os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = interface_of(own)
    options = rpc.TensorPipeRpcBackendOptions(
        init_method=f"{_SCHEME}://{store.host}:{store.port}",
        rpc_timeout=timeout_s,
        _transports=["uv"],
        _channels=["basic"],
    )

    def meet(url: str, **_: Any) -> Iterator[tuple[TCPStore, int, int]]:
        yield store, rank, world

    # A member that has died in between would be waited for by torch's own meeting point for half
    # an hour, and by the group itself, whose time is no option, for 24 days.
    register_rendezvous_handler(_SCHEME, meet)  # type: ignore[no-untyped-call]
    rpc.constants.DEFAULT_PROCESS_GROUP_TIMEOUT = timedelta(seconds=timeout_s)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module="torch.distributed")
        try:
            rpc.init_rpc(  # type: ignore[no-untyped-call]
                name, rank=rank, world_size=world, rpc_backend_options=options
            )
        except (RuntimeError, DistError) as error:
            log.debug("%s could not enter the RPC group: %s", name, error)
            raise PeerLost(
                f"{name} could not enter the RPC group at {store.host}:{store.port} within {timeout_s:g} s: "
                "another member went away or cannot be reached"
            ) from None


def _leave() -> None:
    with suppress(RuntimeError):  # the peers may be gone, or the group was never entered
        rpc.shutdown(graceful=False)


def _refuse_taken(address: str, port: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            raise ConfigError(f"cannot listen on {address}:{port}: {error.strerror}") from None


def _refuse_second_run() -> None:
    if rpc._init_counter:  # torch counts its groups in each process, and would wait for peers that do not
        raise ConfigError("PyTorch RPC carries one run a process: start the next one in a new process")


def _found(host: str, port: int, timeout_s: float) -> tuple[TCPStore, dict[str, Any]]:
    """The server's store and what it has put up there.

    Looked for in a thread, since the store's own timeout does not hold against a listener
    that says nothing.
    """
    found: list[tuple[TCPStore, dict[str, Any]] | DistError] = []

    def look() -> None:
        patience = timedelta(seconds=timeout_s)
        try:
            store = TCPStore(host, port, is_master=False, timeout=patience, wait_for_workers=False)
            store.wait(["splitfl/hello"], patience)
            found.append((store, json.loads(store.get("splitfl/hello"))))
        except DistError as error:
            found.append(error)

    looking = threading.Thread(target=look, name="meeting", daemon=True)
    looking.start()
    looking.join(timeout_s)
    first = found[0] if found else None
    if not isinstance(first, tuple):
        log.debug("no splitfl server at %s:%d: %s", host, port, first)
        raise PeerLost(f"{host}:{port} answers, but not as a splitfl server does")
    return first


def _await_listener(host: str, port: int, timeout_s: float) -> None:
    deadline_s = time.monotonic() + timeout_s
    while True:
        try:
            socket.create_connection((host, port), timeout=min(timeout_s, 5.0)).close()
            return
        except OSError as error:
            if time.monotonic() > deadline_s:
                reason = error.strerror or str(error)
                raise Timeout(f"no server at {host}:{port} within {timeout_s:g} s: {reason}") from None
            time.sleep(_POLL_S)
