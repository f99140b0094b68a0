"""PyTorch RPC, a client's end: connects to the server's store, enters the RPC group and is admitted."""

import json
import logging
import os
import socket
import struct
import threading
import time
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from typing import Any, Final

import torch
from torch.distributed import DistError, TCPStore, rpc  # type: ignore[attr-defined]  # it does not list them

from splitfl.core.errors import ConfigError, PeerLost, RunEnded, Timeout
from splitfl.transport.base.interfaces import address_towards
from splitfl.transport.base.versions import check_same, versions
from splitfl.transport.rpc.group import SERVER, enter_group, leave_group
from splitfl.transport.rpc.heartbeats import REFUSED, WAIT, beat_s
from splitfl.transport.rpc.server import admit, answer_request, hear_beat, hear_leave, hear_ready

log = logging.getLogger(__name__)

_POLL_S: Final = 0.1
_LEAVE_S: Final = 1.0
_GRACE_S: Final = 2.0
_VALIDATE: Final = struct.pack("=BI", 0, 0x3C85F7CE)
_PING: Final = b"\x0d"


class RpcClient:
    """A client's end with requests, replies and heartbeats.

    A reply may take long, since the server may wait for slower clients. The server counts as lost if it
    does not acknowledge a heartbeat within `timeout_s`.
    """

    def __init__(self, host: str, port: int, client: int, timeout_s: float) -> None:
        """Connects to the server, reads the experiment, and joins as this client.

        Raises Timeout without a server, ConfigError for other versions and if another process
        is this client already.
        """
        self._host, self._port, self._client = host, port, client
        _await_listener(host, port, timeout_s)
        self._store, hello = _found(host, port, timeout_s)
        self._clients = int(hello["clients"])
        self._check(hello)
        self.timeout_s = float(hello["timeout_s"])
        self.experiment: dict[str, Any] = hello["experiment"]
        self._join_timeout_s = float(hello["join_timeout_s"])
        self._over = threading.Event()
        self._lost: PeerLost | None = None
        try:
            rank = self._store.add("splitfl/entrants", 1)
            own = address_towards(host, port)
            enter_group(self._store, f"client{client}:{rank}", rank, own, self.timeout_s)
        except DistError as error:
            raise self._gone(error) from None
        try:
            self._session = self._admitted()
        except BaseException:
            leave_group()
            raise
        threading.Thread(target=self._beat, name="signs-of-life", daemon=True).start()

    def enter(self) -> None:
        self._obey(self._call(hear_ready, self._session))
        deadline_s = time.monotonic() + self._join_timeout_s
        try:
            while not self._store.check(["splitfl/go"]):
                if self._lost is not None:
                    raise self._lost
                if time.monotonic() > deadline_s:
                    raise Timeout(f"the other clients did not come within {self._join_timeout_s:g} s")
                time.sleep(_POLL_S)
        except DistError as error:
            raise self._gone(error) from None

    def request(self, frame: bytes) -> bytes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # about the read-only buffer, which is only read
            payload = torch.frombuffer(frame, dtype=torch.uint8)
        answered = threading.Event()
        try:
            future = rpc.rpc_async(
                SERVER, answer_request, args=(self._client, self._session, payload), timeout=0
            )
            future.add_done_callback(lambda _: answered.set())
            while not answered.wait(_POLL_S):
                if self._lost is not None:
                    raise self._lost
                if self._over.is_set():
                    raise PeerLost(f"client {self._client} has left")
            reply = future.value()
        except RuntimeError as error:
            if self._over.is_set():  # `leave` closed the group while this request waited
                raise PeerLost(f"client {self._client} has left") from None
            raise self._lost or self._gone(error) from None
        if isinstance(reply, str):
            self._obey(self._call(hear_beat, self._session))
            raise PeerLost(f"the server at {self._host}:{self._port} refused this client: {reply}")
        assert isinstance(reply, torch.Tensor)
        return reply.numpy().tobytes()

    def leave(self) -> None:
        if self._over.is_set():
            return
        self._over.set()
        if self._lost is None:
            with suppress(PeerLost):
                self._call(hear_leave, self._session, timeout_s=min(self.timeout_s, _LEAVE_S))
        leave_group()

    def _admitted(self) -> int:
        """The session number of this process, once a previous process of this client is known to be gone."""
        began_s = time.monotonic()
        while (session := int(self._call(admit, time.monotonic() - began_s))) == WAIT:
            time.sleep(_POLL_S)
        if session == REFUSED:
            raise ConfigError(f"another client {self._client} has joined {self._host}:{self._port} already")
        return session

    def _beat(self) -> None:
        while not self._over.wait(beat_s(self.timeout_s)):
            try:
                self._obey(self._call(hear_beat, self._session))
            except PeerLost as lost:
                if not self._over.is_set():
                    self._lost = lost
                return

    def _call(self, function: Callable[..., Any], *arguments: Any, timeout_s: float | None = None) -> Any:
        try:
            patience_s = timeout_s or self.timeout_s
            return rpc.rpc_sync(SERVER, function, args=(self._client, *arguments), timeout=patience_s)
        except RuntimeError as error:
            raise self._gone(error) from None

    def _obey(self, refusal: str) -> None:
        """Raises RunEnded if the server has excluded this process."""
        if refusal:
            raise RunEnded(f"the server at {self._host}:{self._port} ended it: {refusal}")

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
    """The server's store and its published settings. Raises PeerLost if there is no splitfl server.

    Runs in a thread, since a blocking store cannot be interrupted. The store is only used if the peer is a
    store: with other servers torch ignores the timeout, and a process that exits meanwhile crashes.
    """
    deadline_s = time.monotonic() + timeout_s
    found: list[tuple[TCPStore, dict[str, Any]] | DistError] = []

    def look() -> None:
        patience = timedelta(seconds=timeout_s)
        try:
            store = TCPStore(host, port, is_master=False, timeout=patience, wait_for_workers=False)
            store.wait(["splitfl/hello"], timedelta(seconds=max(_POLL_S, deadline_s - time.monotonic())))
            found.append((store, json.loads(store.get("splitfl/hello"))))
        except DistError as error:
            found.append(error)

    if _is_store(host, port, timeout_s):
        looking = threading.Thread(target=look, name="meeting", daemon=True)
        looking.start()
        looking.join(timeout_s + _GRACE_S)
    first = found[0] if found else None
    if not isinstance(first, tuple):
        log.debug("no splitfl server at %s:%d: %s", host, port, first)
        raise PeerLost(
            f"{host}:{port} answers, but not as a splitfl server does over PyTorch RPC; "
            "one over gRPC or MQTT is joined by --transport"
        )
    return first


def _is_store(host: str, port: int, timeout_s: float) -> bool:
    """Whether a torch store listens there, by its protocol (TCPStoreBackend.hpp): it expects a magic number
    and echoes the number of a ping."""
    number = struct.pack("=I", os.getpid())
    try:
        with socket.create_connection((host, port), timeout=timeout_s) as asked:
            asked.sendall(_VALIDATE + _PING + number)
            return asked.recv(len(number), socket.MSG_WAITALL) == number
    except OSError:
        return False


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
