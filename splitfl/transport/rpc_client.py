"""PyTorch RPC, a client's side: finds the server's store, then enters the group that meets there."""

import json
import logging
import socket
import threading
import time
import warnings
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import torch
from torch.distributed import DistError, TCPStore, rpc  # type: ignore[attr-defined]  # it does not list them

from splitfl.errors import ConfigError, PeerLost, Timeout
from splitfl.transport.interfaces import address_towards
from splitfl.transport.rpc import answer_request, hear_beat
from splitfl.transport.rpc_group import SERVER, enter_group, leave_group, refuse_second_run
from splitfl.transport.versions import check_same, versions

log = logging.getLogger(__name__)

_POLL_S: Final = 0.1
_BEAT_S: Final = 5.0


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
        refuse_second_run()
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
        enter_group(self._store, name, rank, self._clients + 1, own, self.timeout_s)
        threading.Thread(target=self._beat, name="signs-of-life", daemon=True).start()

    def request(self, frame: bytes) -> bytes:
        """The server's answer; Timeout or PeerLost where none comes."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # the buffer is read-only, and only read
            payload = torch.frombuffer(frame, dtype=torch.uint8)
        answered = threading.Event()
        try:
            future = rpc.rpc_async(SERVER, answer_request, args=(self._client, payload), timeout=0)
            future.add_done_callback(lambda _: answered.set())
            while not answered.wait(_POLL_S):
                if self._lost is not None:
                    raise self._lost
                if self._over.is_set():
                    raise PeerLost(f"client {self._client} has left")
            reply = future.value()
        except RuntimeError as error:
            raise self._lost or self._gone(error) from None
        assert isinstance(reply, torch.Tensor)
        return reply.numpy().tobytes()

    def leave(self) -> None:
        """Leaves without waiting for anybody; one that never entered may come again."""
        self._over.set()
        if self._is_in:
            leave_group()
        else:
            with suppress(DistError):
                self._store.add(f"splitfl/claim/{self._client}", -1)

    def _beat(self) -> None:
        while not self._over.wait(min(_BEAT_S, self.timeout_s / 4)):
            try:
                rpc.rpc_sync(SERVER, hear_beat, args=(self._client,), timeout=self.timeout_s)
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
        check_same({name: str(hello.get(name)) for name in versions()}, versions())
        if not 0 <= self._client < self._clients:
            raise ConfigError(f"the client must lie in 0..{self._clients - 1}, got {self._client}")


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


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
