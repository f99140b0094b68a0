"""The doctor's agent on a node. Only this file is sent there, so it uses only the standard library.

It reads one request per line and writes one answer per line, both JSON; answers are prefixed by MARK, since a
login shell may print other text. Ports that it opens on request accept any connection: by the first byte they
echo (b"e"), count (b"s") or send zeros (b"d").
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import metadata

MARK = "splitfl-agent: "
MODULES = ("torch", "transformers", "peft", "splitfl")
SIOCGIFADDR, SIOCGIFMTU = 0x8915, 0x8921
IP_MTU = 14
CHUNK = bytes(65536)
PATIENCE_S = 10.0


def facts() -> dict[str, object]:
    """Facts of this machine: versions, free disk and memory, privileges, and addresses of its own name."""
    versions: dict[str, object] = {"python": ".".join(map(str, sys.version_info[:3]))}
    for name in MODULES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            versions[name] = None
    with open("/proc/meminfo") as file:
        memory = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in file if "kB" in line}
    return {
        "host": socket.gethostname(),
        "own_name": resolve(socket.gethostname())["addresses"],
        "versions": versions,
        "disk_free_bytes": shutil.disk_usage(os.getcwd()).free,
        "memory_free_bytes": memory["MemAvailable"],
        "is_root": os.geteuid() == 0,
        "has_tun": os.path.exists("/dev/net/tun"),
        "interfaces": interfaces(),
    }


def clock() -> dict[str, object]:
    """The Unix time of this machine."""
    return {"now_s": time.time()}


def interfaces() -> dict[str, dict[str, object]]:
    """IPv4 address and MTU of each interface with an address, by name."""
    found = {}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode())
            try:
                address = socket.inet_ntoa(fcntl.ioctl(probe, SIOCGIFADDR, request)[20:24])
            except OSError:
                continue
            mtu = struct.unpack("16xi", fcntl.ioctl(probe, SIOCGIFMTU, request)[:20])[0]
            found[name] = {"address": address, "mtu": mtu}
    return found


def resolve(name: str) -> dict[str, object]:
    """The IPv4 addresses of a name; empty, with the reason, if it has none."""
    try:
        found = socket.getaddrinfo(name, None, socket.AF_INET, socket.SOCK_STREAM)
    except OSError as error:
        return {"addresses": [], "reason": error.strerror or str(error)}
    return {"addresses": sorted({str(entry[4][0]) for entry in found})}


def lookup(address: str) -> dict[str, object]:
    """The duration of a reverse DNS lookup, in the form in which torch's store performs it."""
    begun_s = time.monotonic()
    with suppress(OSError):  # an address without a name is fine
        socket.getnameinfo(("::ffff:" + address, 1, 0, 0), 0)
    return {"took_s": time.monotonic() - begun_s}


def route(host: str, port: int) -> dict[str, object]:
    """The local address and interface of the route to a host; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((host, port))
        address = probe.getsockname()[0]
    names = [name for name, held in interfaces().items() if held["address"] == address]
    return {"address": address, "interface": names[0] if names else ""}


def bind(address: str, peer: str) -> dict[str, object]:
    """The address to listen on: this one, or that of the route to a peer.

    The latter is behind a mapped port, and for an own name that resolves to 127.0.1.1.
    """
    with suppress(OSError), socket.socket() as probe:
        probe.bind((address, 0))
        found = probe.getsockname()[0]
        if not found.startswith("127.") or found == address:
            return {"address": found}
    return {"address": route(peer, 9)["address"]}


def listen(port: int, host: str = "") -> dict[str, object]:
    """Listens on a port (0: any free one) of an address of this machine, by default of every one."""
    try:
        listener = socket.create_server((host, port), backlog=64)
    except OSError as error:
        return {"port": 0, "reason": os.strerror(error.errno or 0)}
    threading.Thread(target=_accept, args=(listener,), daemon=True).start()
    return {"port": listener.getsockname()[1]}


def probe(targets: list[list[object]], patience_s: float) -> dict[str, object]:
    """Connects to each host and port in parallel; the outcome is open, refused, silent or unreachable."""
    results: list[dict[str, object]] = [{} for _ in targets]

    def one(at: int, host: str, port: int) -> None:
        results[at] = _try(host, port, patience_s)

    threads = [
        threading.Thread(target=one, args=(at, host, port), daemon=True)
        for at, (host, port) in enumerate(targets)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"results": results}


def measure(host: str, port: int, seconds: float) -> dict[str, object]:
    """Round trip, path MTU, whether large packets pass, and bandwidth, to a port opened by another agent."""
    with _speak(host, port, b"e") as peer:
        times_s = []
        for _ in range(20):
            begun_s = time.monotonic()
            peer.sendall(b"x")
            if not peer.recv(1):
                raise OSError("the other end closed")
            times_s.append(time.monotonic() - begun_s)
        mtu = peer.getsockopt(socket.IPPROTO_IP, IP_MTU)
        passes = _echoes(peer, 60000)
    return {
        "round_trip_s": sorted(times_s)[len(times_s) // 2],
        "mtu": mtu,
        "large_packets_pass": passes,
        "up_bps": _up(host, port, seconds) if passes else 0.0,
        "down_bps": _down(host, port, seconds) if passes else 0.0,
    }


def main() -> None:
    """Answers requests until the end of standard input."""
    actions: dict[str, Callable[..., dict[str, object]]] = {
        "facts": facts,
        "clock": clock,
        "resolve": resolve,
        "lookup": lookup,
        "route": route,
        "bind": bind,
        "listen": listen,
        "probe": probe,
        "measure": measure,
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = actions[request.pop("do")](**request)
        except OSError as error:
            answer = {"error": error.strerror or str(error)}
        print(MARK + json.dumps(answer), flush=True)


def _try(host: str, port: int, timeout_s: float) -> dict[str, object]:
    begun_s = time.monotonic()
    try:
        socket.create_connection((host, port), timeout=timeout_s).close()
    except TimeoutError:
        return {"outcome": "silent"}
    except ConnectionRefusedError:
        return {"outcome": "refused", "connect_s": time.monotonic() - begun_s}
    except OSError as error:
        return {"outcome": "unreachable", "reason": error.strerror or str(error)}
    return {"outcome": "open", "connect_s": time.monotonic() - begun_s}


def _speak(host: str, port: int, word: bytes) -> socket.socket:
    peer = socket.create_connection((host, port), timeout=PATIENCE_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.sendall(word)
    return peer


def _echoes(peer: socket.socket, count: int) -> bool:
    peer.settimeout(3.0)
    try:
        peer.sendall(bytes(count))
        while count:
            got = len(peer.recv(count))
            if not got:
                return False
            count -= got
    except OSError:
        return False
    return True


def _up(host: str, port: int, seconds: float) -> float:
    with _speak(host, port, b"s") as peer:
        begun_s = time.monotonic()
        while time.monotonic() - begun_s < seconds:
            peer.sendall(CHUNK)
        peer.shutdown(socket.SHUT_WR)
        counted = struct.unpack("!Q", peer.recv(8, socket.MSG_WAITALL))[0]
        return float(counted * 8 / (time.monotonic() - begun_s))


def _down(host: str, port: int, seconds: float) -> float:
    with _speak(host, port, b"d") as peer:
        begun_s, counted = time.monotonic(), 0
        while time.monotonic() - begun_s < seconds:
            counted += len(peer.recv(len(CHUNK)))
        return counted * 8 / (time.monotonic() - begun_s)


def _accept(listener: socket.socket) -> None:
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=_answer, args=(peer,), daemon=True).start()


def _answer(peer: socket.socket) -> None:
    with suppress(OSError), peer:  # the peer ends a measurement by closing
        peer.settimeout(PATIENCE_S)
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        serving = {b"e": _echo, b"s": _count, b"d": _send_zeros}.get(peer.recv(1))
        if serving is not None:
            serving(peer)


def _echo(peer: socket.socket) -> None:
    while got := peer.recv(len(CHUNK)):
        peer.sendall(got)


def _count(peer: socket.socket) -> None:
    count = 0
    while got := len(peer.recv(len(CHUNK))):
        count += got
    peer.sendall(struct.pack("!Q", count))


def _send_zeros(peer: socket.socket) -> None:
    while True:
        peer.sendall(CHUNK)


if __name__ == "agent":
    main()
