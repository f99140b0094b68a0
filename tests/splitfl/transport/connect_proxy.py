"""The smallest HTTP proxy: it knows CONNECT and nothing else."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Self


class ConnectProxy:
    """Listens on `port`; `asked` are the first lines of what it was asked. It takes every name for this
    machine's, so that a test may ask for one that only the proxy knows."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.asked: list[str] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(near,), daemon=True).start()

    def _serve(self, near: socket.socket) -> None:
        with near:
            head = b""
            while b"\r\n\r\n" not in head:
                more = near.recv(1)
                if not more:
                    return
                head += more
            self.asked.append(head.split(b"\r\n")[0].decode())
            port = int(self.asked[-1].split()[1].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), timeout=10) as far:
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                back = threading.Thread(target=_pump, args=(near, far), daemon=True)
                back.start()
                _pump(far, near)
                back.join(10)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)
