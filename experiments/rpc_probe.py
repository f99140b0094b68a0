"""Unmodified PyTorch RPC over a live link: goodput, round-trip times, and the emulator's lateness."""

import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from channel.links.fixed import Direction, FixedLink
from channel.live.emulation import Emulation
from channel.live.switch import DeliveryOrder
from splitfl.core.errors import Timeout
from testbed.errors import CommandFailed
from testbed.live import DEVICE, LiveLink
from testbed.namespaces import Namespace

DELAY_S = 0.005
"""One-way delay, in each direction."""
_SEND_S = 0.4
_BUFFER_S = 0.2
_TIMEOUT_S = 240.0
_ROOT = Path(__file__).parents[1]


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Goodput of each message (bits over its round-trip time), and single-byte round-trip times.

    `late_s` is the 99th percentile of the emulator's packet release lateness.
    """

    goodput_bps: list[float]
    echo_s: list[float]
    late_s: float


def probe(*, rate_bps: float, sends: int, loss_rate: float = 0.0, congestion: str = "reno") -> Probe:
    """Measures over a symmetric link with 5 ms of delay and a buffer of 200 ms.

    Raises NotRoot without root, CommandFailed and Timeout if RPC fails.
    """
    direction = Direction(rate_bps=rate_bps, delay_s=DELAY_S, loss_rate=loss_rate)
    emulation = Emulation(
        air=FixedLink(seed=0, up=direction, down=direction, max_tries=1),
        clients=1,
        order=DeliveryOrder(seed=0),
        queue_bytes=int(_BUFFER_S * rate_bps / 8),
    )
    size_bytes = int(_SEND_S * rate_bps / 8)
    with LiveLink(emulation, congestion) as link:
        arguments = [link.addresses[0], str(size_bytes), str(sends)]
        output = timed_rpc(link.server, link.clients[0], device=DEVICE, arguments=arguments)
        measured = link.finish()
    return Probe(
        goodput_bps=[8.0 * size_bytes / took_s for took_s in output["send_s"]],
        echo_s=output["echo_s"],
        late_s=measured["lateness"]["p99_s"],
    )


def timed_rpc(
    server: Namespace, client: Namespace, *, device: str, arguments: list[str]
) -> dict[str, list[float]]:
    """The client's output of `rpc_echo` with these arguments, whose two sides run in these namespaces.

    Both use the interface `device` of their namespace. Raises CommandFailed and Timeout.
    """
    names = [f"TP_SOCKET_IFNAME={device}", f"GLOO_SOCKET_IFNAME={device}", f"PYTHONPATH={_ROOT}"]
    argv = ["env", *names, "OMP_NUM_THREADS=1", sys.executable, "-P", "-m", "experiments.rpc_echo"]
    with tempfile.TemporaryFile() as log:
        serving = server.popen([*argv, "server", *arguments], stdout=log, stderr=log)
        measuring = client.popen([*argv, "client", *arguments], stdout=subprocess.PIPE, stderr=log)
        try:
            output, _ = measuring.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise Timeout(f"RPC between namespaces took longer than {_TIMEOUT_S:g} s") from None
        finally:
            for process in (measuring, serving):
                process.kill()
                process.wait()
        if measuring.returncode:
            log.seek(0)
            last = log.read().decode(errors="replace").strip().splitlines()[-1:]
            raise CommandFailed(f"RPC between namespaces ended with {measuring.returncode}: {''.join(last)}")
    parsed: dict[str, list[float]] = json.loads(output)
    return parsed
