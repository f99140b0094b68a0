"""`python -m experiments.bench.overlay_ends ROLE ADDRESS`: ends of a timed TCP connection, see `overlay`.

The client sends single bytes that come back, then much that is taken, then asks for as much; it prints the
seconds of each echo and the bits a second of each way as JSON.
"""

import json
import socket
import sys
import time
from typing import Final

PORT: Final = 29600
_ECHOES: Final = 500
_BULK_BYTES: Final = 256 << 20
_PIECE: Final = bytes(1 << 20)


def main() -> None:
    """One of the two ends, in a namespace of its own."""
    role, address = sys.argv[1], sys.argv[2]
    if role == "server":
        _serve(address)
    else:
        print(json.dumps(_ask(address)), flush=True)


def _serve(address: str) -> None:
    with socket.create_server((address, PORT)) as listener:
        print("listening", flush=True)
        peer, _ = listener.accept()
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_ECHOES):
            peer.sendall(_took(peer, 1))
        _drain(peer)
        peer.sendall(b"!")
        _pour(peer)
        _took(peer, 1)


def _ask(address: str) -> dict[str, object]:
    with socket.create_connection((address, PORT), 20.0) as peer:
        peer.settimeout(60.0)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        echo_s = []
        for _ in range(_ECHOES):
            began_s = time.perf_counter()
            peer.sendall(b"?")
            _took(peer, 1)
            echo_s.append(time.perf_counter() - began_s)
        began_s = time.perf_counter()
        _pour(peer)
        _took(peer, 1)
        up_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        _drain(peer)
        down_s = time.perf_counter() - began_s
        peer.sendall(b"!")
    bits = 8 * _BULK_BYTES
    return {"echo_s": echo_s, "up_bps": bits / up_s, "down_bps": bits / down_s}


def _pour(peer: socket.socket) -> None:
    for _ in range(_BULK_BYTES // len(_PIECE)):
        peer.sendall(_PIECE)


def _drain(peer: socket.socket) -> None:
    left, buffer = _BULK_BYTES, bytearray(1 << 20)
    while left:
        got = peer.recv_into(buffer, min(left, len(buffer)))
        if not got:
            raise ConnectionError(f"the other end went {left} bytes too early")
        left -= got


def _took(peer: socket.socket, size: int) -> bytes:
    got = peer.recv(size)
    if not got:
        raise ConnectionError("the other end went too early")
    return got


if __name__ == "__main__":
    main()
