"""`python -m experiments.bench.overlay_ends ROLE ADDRESS`: the ends of a timed TCP connection, see `overlay`.

The client times single-byte echoes, then a bulk transfer in each direction; it prints the seconds of each
echo and the throughput of each direction in bit/s as JSON.
"""

import json
import socket
import sys
import time
from typing import Final

PORT: Final = 29600
_ECHOES: Final = 500
_BULK_BYTES: Final = 256 << 20
_CHUNK: Final = bytes(1 << 20)


def main() -> None:
    """Runs one of the two ends, in its own namespace."""
    role, address = sys.argv[1], sys.argv[2]
    if role == "server":
        _serve(address)
    else:
        print(json.dumps(_measure(address)), flush=True)


def _serve(address: str) -> None:
    with socket.create_server((address, PORT)) as listener:
        print("listening", flush=True)
        peer, _ = listener.accept()
    with peer:
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(_ECHOES):
            peer.sendall(_receive(peer, 1))
        _receive_bulk(peer)
        peer.sendall(b"!")
        _send_bulk(peer)
        _receive(peer, 1)


def _measure(address: str) -> dict[str, object]:
    with socket.create_connection((address, PORT), 20.0) as peer:
        peer.settimeout(60.0)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        echo_s = []
        for _ in range(_ECHOES):
            began_s = time.perf_counter()
            peer.sendall(b"?")
            _receive(peer, 1)
            echo_s.append(time.perf_counter() - began_s)
        began_s = time.perf_counter()
        _send_bulk(peer)
        _receive(peer, 1)
        up_s = time.perf_counter() - began_s
        began_s = time.perf_counter()
        _receive_bulk(peer)
        down_s = time.perf_counter() - began_s
        peer.sendall(b"!")
    bits = 8 * _BULK_BYTES
    return {"echo_s": echo_s, "up_bps": bits / up_s, "down_bps": bits / down_s}


def _send_bulk(peer: socket.socket) -> None:
    for _ in range(_BULK_BYTES // len(_CHUNK)):
        peer.sendall(_CHUNK)


def _receive_bulk(peer: socket.socket) -> None:
    left, buffer = _BULK_BYTES, bytearray(1 << 20)
    while left:
        got = peer.recv_into(buffer, min(left, len(buffer)))
        if not got:
            raise ConnectionError(f"peer closed the connection {left} bytes early")
        left -= got


def _receive(peer: socket.socket, size: int) -> bytes:
    got = peer.recv(size)
    if not got:
        raise ConnectionError("peer closed the connection early")
    return got


if __name__ == "__main__":
    main()
