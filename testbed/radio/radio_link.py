"""A radio network on this machine: namespaces for server and clients, and bridges over an IQ channel.

The air and the bridges are processes in a namespace of their own; each bridge has its network interface in
that of its node. Node 0 is the server, at the base station.
"""

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from channel.core.closing import Closing
from channel.iq.from_scenario import iq_channel_of
from channel.live.json_codec import written
from channel.scenario.load import Scenario
from splitfl.core.errors import ConfigError, PeerLost
from testbed.live import set_congestion_control
from testbed.local import exit_reason
from testbed.namespaces import Namespace, need_root
from testbed.radio.modem import ModemSettings

log = logging.getLogger(__name__)

_NICENESS: Final = -10
_ROOT: Final = str(Path(__file__).parents[2])
_HOSTS: Final = "127.0.0.1 localhost\n"
_SLOT_PACKETS: Final = 2  # few, for the round trip is a cycle of all clients' slots
_PORT: Final = 2000
_START_S: Final = 120.0
_STOP_S: Final = 20.0
_POLL_S: Final = 0.05
_ROW_BYTES: Final = 512  # more than a row of a bridge's record
# A node that computes may be late on a loaded machine; the air waits for it, and the radios for the air.
_AIR_TIMEOUT_S, _RADIO_TIMEOUT_S = 30.0, 60.0


@dataclass(frozen=True, kw_only=True)
class RadioLinkSettings:
    """The sample rate, the packets, and TCP's congestion control in all namespaces."""

    rate_hz: float
    modem: ModemSettings
    congestion: str = "reno"

    @property
    def phy_bps(self) -> float:
        """The bits of IP packets per second if longest packets follow each other without a pause."""
        return 8.0 * self.modem.longest * self.rate_hz / self.modem.longest_burst


class RadioLink(Closing):
    """The network; removed when the context exits.

    `server` and `clients` are the namespaces, `addresses` those of all nodes. If this process dies, the air's
    process removes the namespaces; if both die, the next run does.
    """

    def __init__(self, scenario: Scenario, settings: RadioLinkSettings) -> None:
        """Starts it; the scenario has one user for each client.

        Several clients send in turn, the server at any time. Raises NotRoot without root, BadParameter for a
        scenario that does not fit the rate, ConfigError for missing support of the machine, and PeerLost for
        a process that ends or does not start in time.
        """
        need_root("runs over the waveform")
        iq_channel_of(scenario, rate_hz=settings.rate_hz)
        self._settings, self._scenario = settings, scenario
        nodes = scenario.place.users + 1
        self.addresses = [f"10.78.0.{node + 1}" for node in range(nodes)]
        self._stack = ExitStack()
        self._folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="splitfl-radio-")))
        try:
            self._air_space = self._namespace("radio-air")
            self.server = self._namespace("radio-server")
            self.clients = [self._namespace(f"radio-client-{client}") for client in range(nodes - 1)]
            self._air = self._started_air()
            self._bridges = [self._started_bridge(node) for node in range(nodes)]
            self._await_ready()
        except BaseException:
            self.close()
            raise

    def dead(self) -> str | None:
        """A message about a process that has ended; None while all run."""
        for name, process in self._processes():
            if (code := process.poll()) is not None:
                return f"the radio link's {name} died with {exit_reason(code)}{self._last_line(name)}"
        return None

    def finish(self) -> dict[str, Any]:
        """Stops bridges and air, and returns what they have counted. Raises PeerLost if one has died.

        `air` is the report of the air, `nodes` the final counts of each bridge, and `rows` those by interval.
        """
        if what := self.dead():
            raise PeerLost(what)
        for process in self._bridges:
            process.send_signal(signal.SIGTERM)
        for node, process in enumerate(self._bridges):
            if process.wait(_STOP_S):
                raise PeerLost(self.dead() or f"bridge-{node} did not stop")
        assert self._air.stdin is not None
        assert self._air.stdout is not None
        self._air.stdin.write(b".")
        air = json.loads(self._air.stdout.readline())
        nodes, rows = [], []
        for node in range(len(self._bridges)):
            lines = (self._folder / f"bridge-{node}.jsonl").read_text(encoding="utf-8").splitlines()
            *intervals, final = map(json.loads, lines)
            nodes.append(final["final"])
            rows += [{"at": node, **row} for row in intervals]
        return {"air": air, "nodes": nodes, "rows": rows}

    def latest(self) -> list[dict[str, Any]]:
        """The last row of each link so far, with the node `at` which it was heard; none before the first."""
        found = {}
        for node in range(len(self._bridges)):
            for row in last_rows(self._folder / f"bridge-{node}.jsonl", len(self._bridges)):
                found[row["node"], node] = {"at": node, **row}
        return list(found.values())

    def close(self) -> None:
        """Ends all processes in the namespaces and removes them."""
        self._stack.close()

    def _namespace(self, tag: str) -> Namespace:
        namespace = self._stack.enter_context(Namespace(tag, hosts=_HOSTS))
        with namespace.inside():
            set_congestion_control(self._settings.congestion)
        return namespace

    def _started_air(self) -> "subprocess.Popen[bytes]":
        process = self._start("air", ["testbed.radio.air_process"], outlives_this=True)
        chosen = {
            "rate_hz": self._settings.rate_hz,
            "port": _PORT,
            "timeout_s": _AIR_TIMEOUT_S,
            "namespace": self._air_space.name,
            "folder": str(self._folder),
        }
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(BrokenPipeError):  # it has exited already; its standard error has the reason
            process.stdin.write(f"{written(self._scenario)}\n{json.dumps(chosen)}\n".encode())
        if process.stdout.readline() != b"ready\n":
            code = process.wait()
            raise PeerLost(f"the radio link's air ended with {exit_reason(code)}{self._last_line('air')}")
        return process

    def _started_bridge(self, node: int) -> "subprocess.Popen[bytes]":
        path = self._folder / f"bridge-{node}.toml"
        path.write_text(self._bridge_settings(node), encoding="utf-8")
        namespace = [self.server, *self.clients][node].name
        return self._start(
            f"bridge-{node}", ["experiments", "radio", "bridge", path, "--namespace", namespace]
        )

    def _bridge_settings(self, node: int) -> str:
        modem = self._settings.modem
        bridge = {
            "node": node,
            "addresses": [f"{address}/24" for address in self.addresses],
            "mtu": modem.longest,
            "mcs": modem.mcs,
            "fft_size": modem.fft_size,
            "block_s": modem.block_s,
            "slots": turns(len(self.clients)),
            "slot_packets": _SLOT_PACKETS,
            "record": str(self._folder / f"bridge-{node}.jsonl"),
        }
        radio = {
            "kind": "zmq",
            "sends_at": f"tcp://127.0.0.1:{_PORT + 2 * node}",
            "hears_at": f"tcp://127.0.0.1:{_PORT + 2 * node + 1}",
            "rate_hz": self._settings.rate_hz,
            "timeout_s": _RADIO_TIMEOUT_S,
        }
        tables = (("bridge", bridge), ("radio", radio))
        lines = (
            line
            for name, table in tables
            for line in (f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items()))
        )
        return "\n".join(lines) + "\n"

    def _start(
        self, name: str, module: Sequence[str | Path], *, outlives_this: bool = False
    ) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, "-P", "-m", *module]
        path = os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
        with (self._folder / f"{name}.log").open("wb") as log:
            settings: dict[str, Any] = {
                "stdin": subprocess.PIPE if outlives_this else subprocess.DEVNULL,
                "stdout": subprocess.PIPE if outlives_this else log,
                "stderr": log,
                "bufsize": 0,
                "env": {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
                "start_new_session": True,  # a keyboard interrupt must not end it before the others
            }
            start = subprocess.Popen if outlives_this else self._air_space.popen
            process = self._stack.enter_context(start(argv, **settings))
            self._stack.callback(process.kill)
            _prefer(process.pid)
            return process

    def _await_ready(self) -> None:
        deadline_s = time.monotonic() + _START_S
        waiting = [f"bridge-{node}" for node in range(len(self._bridges))]
        while waiting := [name for name in waiting if not self._is_ready(name)]:
            if what := self.dead():
                raise ConfigError(what)
            if time.monotonic() > deadline_s:
                raise PeerLost(f"the radio link's {waiting[0]} was not ready within {_START_S:g} s")
            time.sleep(_POLL_S)

    def _is_ready(self, name: str) -> bool:
        return b"READY" in (self._folder / f"{name}.log").read_bytes()

    def _processes(self) -> list[tuple[str, "subprocess.Popen[bytes]"]]:
        bridges = ((f"bridge-{node}", process) for node, process in enumerate(self._bridges))
        return [("air", self._air), *bridges]

    def _last_line(self, name: str) -> str:
        lines = (self._folder / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return f"; last output: {lines[-1].removeprefix('Error: ')}" if lines else ""


def last_rows(path: Path, nodes: int) -> list[dict[str, Any]]:
    """The last rows of a bridge's record, at least those of its last interval."""
    if not path.exists():
        return []
    with path.open("rb") as record:
        record.seek(max(path.stat().st_size - _ROW_BYTES * nodes, 0))
        lines = record.read().splitlines(keepends=True)
    whole = [line for line in lines if line.startswith(b'{"time_s"') and line.endswith(b"\n")]
    return [json.loads(line) for line in whole]


def _prefer(pid: int) -> None:
    """Raises the priority of a session's first process: samples must not wait for training on all cores.

    Where the kernel groups processes by session, only the group's niceness counts between sessions.
    """
    group = Path(f"/proc/{pid}/autogroup")
    try:
        os.setpriority(os.PRIO_PROCESS, pid, _NICENESS)
        if group.exists():
            group.write_text(str(_NICENESS))
    except OSError as error:
        log.warning("no priority for the radio link, samples may be late (%s)", error)


def turns(clients: int) -> list[str]:
    """The slots in which the server may always send, and one of several clients at a time; none for one."""
    if clients == 1:
        return []
    return [
        "1" + "".join("1" if one == client else "0" for one in range(clients)) for client in range(clients)
    ]
