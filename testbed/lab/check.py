"""Checks transports against the lab's firewall: open RPC passes, direct RPC fails, gRPC and overlay pass."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from splitfl.core.errors import SplitflError, Timeout
from splitfl.transport.security.certificates import make_certificates
from testbed.lab.build import Lab
from testbed.lab.plan import find
from testbed.namespaces import Namespace

PORT: Final = 50051
"""The port that the plan `colosseum-firewall` leaves open."""
_INNER_PORT: Final = 29500  # on the overlay every port is open; the hub occupies PORT on all addresses
_TIMEOUT_S: Final = 90.0
_JOIN_S: Final = 30.0
_OVERLAY: Final = ("testbed", "overlay")
_ROOT: Final = str(Path(__file__).parents[2])


def firewall_check() -> dict[str, Any]:
    """Round trip and rate of each connection that passes, the error of the others, and `is_right`.

    `open` is RPC without a firewall, `direct` RPC through a firewall with one open port, `grpc`
    gRPC through that port, and `overlay` RPC over the overlay through that port. `is_right` is whether
    exactly `direct` fails. Needs root; takes about half a minute.
    """
    with Lab(find("open")) as lab:
        results = {"open": echo(lab.nodes, "rpc", lab.plan.nodes["gpu"].address)}
    with Lab(find("colosseum-firewall")) as lab:
        gpu = lab.plan.nodes["gpu"].address
        results["direct"] = echo(lab.nodes, "rpc", gpu)
        results["grpc"] = echo(lab.nodes, "grpc", gpu)
        with TemporaryDirectory() as folder, overlay(lab.nodes, gpu, Path(folder)) as hub:
            results["overlay"] = echo(lab.nodes, "rpc", hub, _INNER_PORT)
    passes = {name: "error" not in result for name, result in results.items()}
    is_right = passes == {"open": True, "direct": False, "grpc": True, "overlay": True}
    return {**results, "is_right": is_right}


def echo(nodes: Mapping[str, Namespace], transport: str, host: str, port: int = PORT) -> dict[str, Any]:
    """A client's measurements of a transport to the node gpu at that address, or its error."""
    server = _python(nodes["gpu"], "serve", transport, host, port)
    try:
        return dict(json.loads(_output(_python(nodes["srn2"], "join", transport, host, port))))
    except SplitflError as error:
        return {"error": str(error)}
    finally:
        server.kill()
        server.communicate()


@contextmanager
def overlay(nodes: Mapping[str, Namespace], host: str, secrets: Path) -> Iterator[str]:
    """An overlay of the nodes gpu and srn2 through the open port; yields the hub's overlay address.

    Certificates are created in the folder `secrets`.
    """
    make_certificates(secrets, 1, [host], days=1)
    where = f"{host}:{PORT}"
    hub = _start(nodes["gpu"], "experiments", [*_OVERLAY, "hub", "--listen", where, "--secrets", secrets])
    words: list[str | Path] = [*_OVERLAY, "join", where, "--secrets", secrets, "--name", "client-0"]
    member = _start(nodes["srn2"], "experiments", words)
    try:
        deadline_s = time.monotonic() + _JOIN_S
        while "10.99.0.2" not in nodes["srn2"].run(["ip", "-br", "address"], _JOIN_S):
            if time.monotonic() > deadline_s or member.poll() is not None or hub.poll() is not None:
                member.kill()
                raise Timeout(f"no overlay: {member.communicate()[1].decode(errors='replace').strip()}")
            time.sleep(0.05)
        yield "10.99.0.1"
    finally:
        for process in (member, hub):
            process.kill()
            process.communicate()


def _python(node: Namespace, side: str, transport: str, host: str, port: int) -> "subprocess.Popen[bytes]":
    return _start(node, "testbed.lab.echo", [side, transport, host, str(port)])


def _start(node: Namespace, module: str, words: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "FATAL"}
    command = [sys.executable, "-P", "-m", module, *words]
    process: subprocess.Popen[bytes] = node.popen(command, env=environment, stdin=subprocess.DEVNULL, **pipes)
    return process


def _output(process: "subprocess.Popen[bytes]") -> bytes:
    """The standard output; raises SplitflError with the last line of standard error on failure."""
    try:
        output, errors = process.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Timeout(f"no answer for {_TIMEOUT_S:g} s") from None
    if process.returncode:
        lines = errors.decode(errors="replace").strip().splitlines() or ["it exited without output"]
        raise SplitflError(lines[-1].removeprefix("Error: "))
    return output
