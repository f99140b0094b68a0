"""The process that holds a lab until it is told to end: `python -m testbed.lab.daemon PLAN NAME PIPE`.

It is nobody's child, so that nobody has to wait for it. It writes its own number into the
pipe at once, and closes that when the lab stands; which it is too when the keeper dies.
"""

import os
import signal
import sys

from splitfl.core.errors import SplitflError
from testbed.lab.build import Lab
from testbed.lab.plan import find
from testbed.lab.state import State
from testbed.namespaces import started_at

_ENDS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


def main() -> None:
    """Holds the lab. The signals that end it are waited for, so that none comes in the middle of building."""
    if os.fork():
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDS)
    plan_name, name, pipe = sys.argv[1:]
    os.write(int(pipe), str(os.getpid()).encode())
    try:
        with Lab(find(plan_name)) as lab:
            State(
                name=name,
                plan=plan_name,
                keeper=os.getpid(),
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
