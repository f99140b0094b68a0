"""`python -m testbed.radio.air_process`: the process that is the air between the nodes of a RadioLink.

The parent writes a scenario to standard input, then a line with `rate_hz`, `port`, `timeout_s`, the
`namespace` of the sockets and the `folder` of its files, and keeps the pipe open. This process prints `ready`
and serves, in real time, until it reads one more byte; it then prints its report as JSON. If the pipe closes
without that byte, the parent has died: its namespaces are removed with all processes in them, and the folder.
"""

import json
import os
import select
import shutil
import sys
from contextlib import ExitStack
from dataclasses import asdict
from typing import Any

from channel.iq.air_report import AirReport
from channel.iq.from_scenario import iq_channel_of
from channel.iq.ports import Air, PortSettings
from channel.live.json_codec import read_scenario
from testbed.forwarder import await_end
from testbed.namespaces import Namespace, reap


def main() -> None:
    """Runs the air; see the module."""
    parent, pipe = os.getppid(), sys.stdin.buffer
    scenario = read_scenario(pipe.readline())
    chosen = json.loads(pipe.readline())
    channel = iq_channel_of(scenario, rate_hz=chosen["rate_hz"])
    ports = PortSettings(port=chosen["port"], timeout_s=chosen["timeout_s"])
    air = Air(channel, ports, tell=lambda line: print(line, file=sys.stderr, flush=True))
    with ExitStack() as stack:
        # Only the sockets: a process in a namespace cannot remove it.
        with Namespace.attach(chosen["namespace"]).inside():
            stack.enter_context(air)
        print("ready", flush=True)
        report = air.run(stop=lambda: bool(select.select([pipe], [], [], 0.0)[0]))
    if pipe.read(1):
        print(json.dumps(_plain(report)), flush=True)
        return
    await_end(parent)
    reap()
    shutil.rmtree(chosen["folder"], ignore_errors=True)


def _plain(report: AirReport) -> dict[str, Any]:
    own = ("seconds", "is_in_real_time")
    return asdict(report) | {name: getattr(report, name) for name in own}


if __name__ == "__main__":
    main()
