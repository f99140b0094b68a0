"""The process that keeps a lab up until a signal: `python -m testbed.lab.daemon PLAN NAME PIPE`.

It detaches from its parent, writes its PID to the pipe at once, and closes the pipe when the lab
is up; the pipe also closes if the daemon dies.
"""

import os
import signal
import sys

from splitfl.core.errors import SplitflError
from testbed.lab.build import Lab
from testbed.lab.plan import find
from testbed.lab.state import LabState
from testbed.namespaces import started_at

_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Runs the lab until a signal; signals are blocked, so that none interrupts the start."""
    if os.fork():
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    plan_name, name, pipe = sys.argv[1:]
    os.write(int(pipe), str(os.getpid()).encode())
    try:
        with Lab(find(plan_name)) as lab:
            LabState(
                name=name,
                plan=plan_name,
                daemon=os.getpid(),
                ticks=started_at(os.getpid()),
                nodes={node: space.name for node, space in lab.nodes.items()},
                addresses={node.name: node.address for node in lab.plan.nodes.values()},
            ).write()
            os.close(int(pipe))
            signal.sigwait(_ENDS)
    except SplitflError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
