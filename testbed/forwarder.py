"""`python -m testbed.forwarder DEVICE...`: the process that forwards a live link's packets.

The parent writes an `Emulation` to standard input, one line of JSON, and keeps the pipe open; DEVICE are
inherited descriptors. This process prints `ready` and forwards until it reads one more byte; it then prints
its measurements as JSON. If the pipe closes without that byte, the parent has died: its namespaces are
removed with all processes in them.
"""

import json
import logging
import os
import sys
import time
from contextlib import suppress

from channel.core.clock import WallClock
from channel.live.emulation import measured
from channel.live.forwarder import Forwarder
from channel.live.json_codec import read
from testbed.namespaces import reap

log = logging.getLogger(__name__)

_POLL_S = 0.01


def main() -> None:
    """Runs the forwarder; see the module."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    parent = os.getppid()
    devices = [int(word) for word in sys.argv[1:]]
    emulation = read(sys.stdin.buffer.readline())
    switch = emulation.switch()
    forwarder = Forwarder(switch, devices, sys.stdin.fileno(), WallClock(), emulation.mtu_bytes)
    is_preferred = _raise_priority()
    with suppress(BrokenPipeError):
        print("ready", flush=True)
    forwarder.run()
    if not os.read(sys.stdin.fileno(), 1):
        await_end(parent)
        reap()
        return
    print(json.dumps({**measured(switch, forwarder), "is_preferred": is_preferred}), flush=True)


def await_end(parent: int) -> None:
    """Waits for the parent's exit: a dying process closes its files before it stops owning its namespaces."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)


def _raise_priority() -> bool:
    """Switches to real-time scheduling, so that packets do not wait for training, which uses all cores."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError as error:
        log.warning("no real-time priority for the forwarder, packets may be late (%s)", error)
        return False
    return True


if __name__ == "__main__":
    main()
