"""`python -m testbed.forwarder DEVICE...`: the process that moves a live link's packets.

Its parent sends an `Emulation` on standard input, a line of JSON, and keeps the pipe open; DEVICE are
descriptors that it hands down. This process says `ready` on standard output and forwards until it gets one
more byte, when it says there what it measured. A pipe that closes without it is a parent that has died: then
its namespaces go, with all that runs in them.
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
    """See the module."""
    logging.basicConfig(format="%(levelname)s: %(message)s")
    parent = os.getppid()
    devices = [int(word) for word in sys.argv[1:]]
    emulation = read(sys.stdin.buffer.readline())
    switch = emulation.switch()
    forwarder = Forwarder(switch, devices, sys.stdin.fileno(), WallClock(), emulation.mtu_bytes)
    is_preferred = _prefer()
    with suppress(BrokenPipeError):
        print("ready", flush=True)
    forwarder.run()
    if not os.read(sys.stdin.fileno(), 1):
        _await_end(parent)
        reap()
        return
    print(json.dumps({**measured(switch, forwarder), "is_preferred": is_preferred}), flush=True)


def _await_end(parent: int) -> None:
    """A process that dies closes its files first, and is a living owner until it has gone."""
    while os.getppid() == parent:
        time.sleep(_POLL_S)


def _prefer() -> bool:
    """Has the kernel run this process first: training takes all cores, and packets must not wait for it."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
    except OSError as error:
        log.warning("packets wait like everybody else: this process may not be preferred (%s)", error)
        return False
    return True


if __name__ == "__main__":
    main()
