"""The two ends of a transport as the conformance cases hold them: in this process, or in one of their own.

PyTorch RPC carries one run a process, and only a process can be killed.
"""

import multiprocessing
import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from splitfl.config import TransportConfig
from splitfl.transport.registry import Joining, transport
from splitfl.transport.seam import Answer, PeerChange

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

    def _result(self) -> Any:
        if not self._pipe.poll(_PATIENCE_S):
            raise AssertionError("a process of a test was silent")
        result, error = self._pipe.recv()
        if error is not None:
            raise error
        return result


def _perform(pipe: Any, make: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    os.environ["TORCH_CPP_LOG_LEVEL"] = "ERROR"
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
