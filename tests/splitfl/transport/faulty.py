"""A TCP relay that cuts, holds up, slows down and repeats connections, as a bad network does."""

import select
import socket
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self


class Relay:
    """Listens on `port` for connections to `target`; its faults are set while it runs."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.accepted = 0
        self.delay_s = 0.0
        self.cut_after_bytes: int | None = None
        """The connection breaks once so many more bytes have gone through, either way."""
        self.is_repeating = False
        """What a client sends is sent to the server over a second connection too."""
        self._flowing = threading.Event()
        self._flowing.set()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._is_over = False
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Breaks every connection."""
        with self._lock:
            held, self._open = self._open, set()
        for one in held:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def hold(self) -> None:
        """Nothing goes through any more, and nobody is told."""
        self._flowing.clear()

    def let_go(self) -> None:
        """Everything goes through again."""
        self._flowing.set()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_over = True
        self._listener.close()
        self._flowing.set()
        self.cut()

    def _accept(self) -> None:
        while not self._is_over:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            try:
                far = socket.create_connection(self._target, timeout=5)
                echo = socket.create_connection(self._target, timeout=5) if self.is_repeating else None
            except OSError:
                near.close()
                continue
            with self._lock:
                self._open |= {near, far} | ({echo} if echo else set())
            for source, sinks in ((near, [far] + ([echo] if echo else [])), (far, [near])):
                threading.Thread(target=self._carry, args=(source, sinks), daemon=True).start()

    def _carry(self, source: socket.socket, sinks: list[socket.socket]) -> None:
        try:
            while True:
                select.select([source], [], [], 60)
                data = source.recv(1 << 16)
                self._flowing.wait()
                time.sleep(self.delay_s)
                if not data:
                    break
                if self._is_spent(len(data)):
                    self.cut()
                    return
                for sink in sinks:
                    sink.sendall(data)
        except (OSError, ValueError):
            pass
        for one in (source, *sinks):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def _is_spent(self, size: int) -> bool:
        with self._lock:
            if self.cut_after_bytes is None:
                return False
            self.cut_after_bytes -= size
            if self.cut_after_bytes > 0:
                return False
            self.cut_after_bytes = None
            return True
