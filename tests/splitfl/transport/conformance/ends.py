"""The two ends of a transport as the conformance cases hold them: in this process, or in one of their own.

PyTorch RPC carries one run a process, and only a process can be killed.
"""

import multiprocessing
import os
import signal
import socket
import stat
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import psutil

from splitfl.config import TransportConfig
from splitfl.transport.base.spec import Joining
from splitfl.transport.base.transport import Answer, PeerChange
from splitfl.transport.registry import transport

_SPAWN: Final = multiprocessing.get_context("spawn")
_PATIENCE_S: Final = 60.0
CLIENTS: Final = 2


class Workshop:
    """Answers what it gets by the same, and counts it; what begins with `hold` waits for a release."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[int, bytes]] = Counter()
        self.order: dict[int, list[bytes]] = {}
        self._released = threading.Event()

    def handle(self, client: int, frame: bytes, answer: Answer) -> None:
        """See Handler."""
        self.calls[client, frame[:32]] += 1
        self.order.setdefault(client, []).append(frame[:32])
        if frame.startswith(b"hold"):
            self._released.wait(_PATIENCE_S)
        answer(frame)

    def release(self) -> None:
        """Lets go on whatever is held."""
        self._released.set()


class Server:
    """A server's end with a workshop behind it."""

    def __init__(self, config: TransportConfig) -> None:
        self._workshop = Workshop()
        self._end = transport(config.name).serve(config, CLIENTS)
        self._end.offer({"what": "to run", "of": config.name})

    def address(self) -> str:
        return self._end.address

    def missing(self) -> list[int]:
        return self._end.missing()

    def start(self) -> None:
        self._end.start(self._workshop.handle)

    def silent(self) -> list[int]:
        return self._end.silent()

    def changes(self) -> list[PeerChange]:
        return self._end.changes()

    def stop(self) -> None:
        self._workshop.release()
        self._end.stop()

    def release(self) -> None:
        self._workshop.release()

    def calls(self) -> dict[tuple[int, bytes], int]:
        return dict(self._workshop.calls)

    def order(self, client: int) -> list[bytes]:
        return list(self._workshop.order.get(client, []))


class Client:
    """A client's end."""

    def __init__(self, name: str, joining: Joining) -> None:
        self._end = transport(name).join(joining)

    def experiment(self) -> dict[str, Any]:
        return self._end.experiment

    def enter(self) -> None:
        self._end.enter()

    def request(self, frame: bytes) -> bytes:
        return self._end.request(frame)

    def leave(self) -> None:
        self._end.leave()

    def leave_amid(self, frame: bytes, after_s: float) -> str:
        """Leaves while this request is under way; what that ended with."""
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(self._end.request, frame)
            time.sleep(after_s)
            self._end.leave()
            return str(asked.exception(_PATIENCE_S))

    def break_amid(self, frame: bytes, phase: str, after_bytes: int) -> bool:
        """Breaks every connection of this process while a request is under way, amid the `request`, in the
        `wait` for its answer or amid the `answer`, once so many bytes have gone through; whether what was
        answered is the frame. Raises what the request ended with."""
        with ThreadPoolExecutor(1) as pool:
            asked = self._under_way(pool, frame, phase, after_bytes)
            for connection in _connections():
                with suppress(OSError):  # closed by its owner in between
                    connection.shutdown(socket.SHUT_RDWR)  # of the connection, whoever has it open
                connection.close()
            return asked.result(_PATIENCE_S) == frame

    def die_amid(self, frame: bytes, after_bytes: int) -> None:
        """Kills this process amid a request."""
        with ThreadPoolExecutor(1) as pool:
            self._under_way(pool, frame, "request", after_bytes)
            os.kill(os.getpid(), signal.SIGKILL)

    def _under_way(
        self, pool: ThreadPoolExecutor, frame: bytes, phase: str, after_bytes: int
    ) -> Future[bytes]:
        before = _carried(phase)
        asked = pool.submit(self._end.request, frame)
        while _carried(phase) - before < after_bytes and not asked.done():
            time.sleep(1e-4)
        assert not asked.done(), "the request was over too early"
        return asked


class Far:
    """Something of the above in a process of its own: called by `call`, ended by `kill`."""

    def __init__(self, make: Callable[..., Any], *arguments: Any) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self.process = _SPAWN.Process(target=_perform, args=(theirs, make, arguments), daemon=True)
        self.process.start()
        theirs.close()
        self._result()

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            self._pipe.send((name, arguments))
            return self._result()

        return call

    def kill(self) -> None:
        """As the kernel does it when memory is short."""
        self.process.kill()
        self.process.join(10)

    def sleep(self) -> None:
        """It does nothing any more, and its connections stand."""
        os.kill(self.process.pid or 0, signal.SIGSTOP)

    def wake(self) -> None:
        """It goes on."""
        os.kill(self.process.pid or 0, signal.SIGCONT)

    def held_bytes(self) -> int:
        """The memory that it has."""
        return int(psutil.Process(self.process.pid).memory_info().rss)

    def _result(self) -> Any:
        if not self._pipe.poll(_PATIENCE_S):
            raise AssertionError("a process of a test was silent")
        result, error = self._pipe.recv()
        if error is not None:
            raise error
        return result


def _connections() -> list[socket.socket]:
    """This process's TCP connections to others, each once more: a library may have one with itself."""
    peers: dict[socket.socket, object] = {}
    for number in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # it may have been closed in between, or go nowhere
            if stat.S_ISSOCK(os.fstat(number).st_mode):
                one = socket.socket(fileno=os.dup(number))
                if one.family in (socket.AF_INET, socket.AF_INET6):
                    peers[one] = one.getpeername()
    own = {one.getsockname() for one in peers}
    return [one for one, peer in peers.items() if peer not in own]


def _carried(phase: str) -> int:
    """Bytes that have come in over all of them, or where no answer is waited for, that were acknowledged."""
    carried = 0
    for connection in _connections():
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 136)  # tcp_info of linux/tcp.h
        acknowledged, received = struct.unpack_from("=QQ", info, 120)
        carried += received if phase == "answer" else acknowledged
        connection.close()
    return carried


def _perform(pipe: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    made: Any = None
    asked: tuple[str, tuple[Any, ...]] | None = None
    while True:
        try:
            if made is None:
                made = make(*arguments)
                pipe.send((None, None))
            else:
                assert asked is not None
                pipe.send((getattr(made, asked[0])(*asked[1]), None))
        except Exception as error:
            pipe.send((None, error))
            if made is None:
                return
        try:
            asked = pipe.recv()
        except EOFError:
            return
