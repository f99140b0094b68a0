"""Row 25 of the conformance table: reachability through a firewall with one open port, as on Colosseum.

Needs root. PyTorch RPC uses ephemeral ports; a TCP stream on a closed port represents it.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from channel.validation import Check, NotRunHere
from experiments.channel.live import as_root
from splitfl.transport.security.certificates import make_certificates
from testbed.lab.build import Lab
from testbed.lab.plan import find
from testbed.namespaces import Namespace

_OPEN_PORT, _OTHER_PORT = 50051, 43210
_HUB = "10.99.0.1"
"""The hub's address, the overlay's first."""
_PATIENCE_S, _TRY_S = 40.0, 2.0


def _claims_met() -> float:
    """Number of claims that hold: without a firewall all ports, with it the open one, by the overlay all."""
    if shutil.which("nft") is None:
        raise NotRunHere("needs the program nft (Debian: nftables)")
    with Lab(find("open")) as lab:
        control = _reaches(lab.nodes["srn2"], lab.nodes["gpu"], _address(lab, "gpu"), _OTHER_PORT)
    with Lab(find("colosseum-firewall")) as lab:
        return float(control) + _behind_firewall(lab)


def _behind_firewall(lab: Lab) -> float:
    near, far, address = lab.nodes["srn2"], lab.nodes["gpu"], _address(lab, "gpu")
    reached = [_reaches(near, far, address, port) for port in (_OPEN_PORT, _OTHER_PORT)]
    back = _reaches(far, near, _address(lab, "srn2"), _OTHER_PORT)
    only_one = reached == [True, False] and not back
    return float(only_one) + float(_overlaid(near, far, address))


def _address(lab: Lab, node: str) -> str:
    addresses = lab.plan.nodes[node].addresses
    return str(next(one for network, one in addresses.items() if network in ("gpu0", "can0")).ip)


def _reaches(near: Namespace, far: Namespace, address: str, port: int) -> bool:
    """Whether a listener at this port can be reached and answers a byte."""
    with far.inside():
        listener = socket.create_server(("0.0.0.0", port))
    with near.inside():
        sender = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listener, sender, suppress(OSError):
        listener.settimeout(_TRY_S)
        sender.settimeout(_TRY_S)
        sender.connect((address, port))
        accepted, _ = listener.accept()
        with accepted:
            accepted.sendall(b"x")
            return sender.recv(1) == b"x"
    return False


def _overlaid(near: Namespace, far: Namespace, address: str) -> bool:
    """Whether the closed port is reached at the hub's overlay address, tunnelled through the open one."""
    splitfl = [sys.executable, "-m", "experiments"]
    with tempfile.TemporaryDirectory() as folder:
        secrets = Path(folder) / "secrets"
        make_certificates(secrets, 1, (address,), 1)
        place = f"{address}:{_OPEN_PORT}"
        command = [*splitfl, "testbed", "overlay"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with far.popen([*command, "hub", "--listen", place, "--secrets", str(secrets)], **quiet) as hub:
            name = ["--name", "client-0", "--secrets", str(secrets)]
            with near.popen([*command, "join", place, *name], **quiet) as client:
                try:
                    return _becomes_reachable(near, far)
                finally:
                    client.kill()
                    hub.kill()


def _becomes_reachable(near: Namespace, far: Namespace) -> bool:
    end_s = time.monotonic() + _PATIENCE_S
    while time.monotonic() < end_s:
        if _reaches(near, far, _HUB, _OTHER_PORT):
            return True
        time.sleep(0.3)
    return False


CHECKS: tuple[Check, ...] = (
    Check(
        row="25",
        what="open network, one-port firewall and overlay through it, number as expected",
        expected=3.0,
        tolerance=0.0,
        measure=partial(as_root, _claims_met),
        is_quick=False,
    ),
)
