"""PyTorch RPC as it comes over a live link: its goodput, its round trips, and how late the emulator was."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from channel.links.fixed import Direction, FixedLink
from channel.live.emulation import Emulation
from channel.live.switch import DeliveryOrder
from splitfl.core.errors import Timeout
from testbed.errors import CommandFailed
from testbed.live import DEVICE, LiveLink

DELAY_S = 0.005
"""Each way."""
_SEND_S = 0.4
_BUFFER_S = 0.2
_TIMEOUT_S = 240.0
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Of each message: its bits over the time until its answer came. Of each byte sent to and fro: the time.

    `late_s` is by how much one of a hundred packets was let go too late, at least.
    """

    goodput_bps: list[float]
    echo_s: list[float]
    late_s: float


def probe(*, rate_bps: float, sends: int, loss_rate: float = 0.0, congestion: str = "reno") -> Probe:
    """Both ways alike, with 5 ms of delay and room for 200 ms; what is lost is TCP's affair.

    Raises NotRoot without root, CommandFailed and Timeout where RPC does not come through.
    """
    way = Direction(rate_bps=rate_bps, delay_s=DELAY_S, loss_rate=loss_rate)
    emulation = Emulation(
        air=FixedLink(seed=0, up=way, down=way, max_tries=1),
        clients=1,
        order=DeliveryOrder(seed=0),
        queue_bytes=int(_BUFFER_S * rate_bps / 8),
    )
    size_bytes = int(_SEND_S * rate_bps / 8)
    with LiveLink(emulation, congestion) as link, tempfile.TemporaryFile() as words:
        said = _said(link, [link.addresses[0], str(size_bytes), str(sends)], words)
        measured = link.finish()
    return Probe(
        goodput_bps=[8.0 * size_bytes / took_s for took_s in said["send_s"]],
        echo_s=said["echo_s"],
        late_s=measured["lateness"]["p99_s"],
    )


def _said(link: LiveLink, more: list[str], words: Any) -> dict[str, Any]:
    """What the client's side of `rpc_echo` says, each side in its namespace."""
    names = [f"TP_SOCKET_IFNAME={DEVICE}", f"GLOO_SOCKET_IFNAME={DEVICE}", f"PYTHONPATH={_ROOT}"]
    argv = ["env", *names, "OMP_NUM_THREADS=1", sys.executable, "-P", "-m", "experiments.rpc_echo"]
    server = link.server.popen([*argv, "server", *more], stdout=words, stderr=words)
    client = link.clients[0].popen([*argv, "client", *more], stdout=subprocess.PIPE, stderr=words)
    try:
        said, _ = client.communicate(timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise Timeout(f"RPC over the live link took more than {_TIMEOUT_S:g} s") from None
    finally:
        for process in (client, server):
            process.kill()
            process.wait()
    if client.returncode:
        words.seek(0)
        last = words.read().decode(errors="replace").strip().splitlines()[-1:]
        raise CommandFailed(f"RPC over the live link ended with {client.returncode}: {''.join(last)}")
    answer: dict[str, Any] = json.loads(said)
    return answer
