"""Starts the agent on a node, over ssh, in a lab or locally, and sends it requests."""

import json
import os
import selectors
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Final, cast

from channel.core.closing import Closing
from splitfl.core.errors import PeerLost, Timeout
from testbed.clocks import ClockOffset, measure
from testbed.doctor.agent import MARK
from testbed.inventory.nodes import Node
from testbed.lab.control import node as lab_node

_SOURCE: Final = Path(__file__).with_name("agent.py").read_bytes()
_LOADER: Final = (  # the version check parses in any Python version
    "import sys; sys.version_info < (3, 11) and "
    "sys.exit('Python %d.%d is too old, splitfl needs 3.11 or newer' % sys.version_info[:2]); "
    "exec(compile(sys.stdin.buffer.read(SIZE), 'agent', 'exec'), {'__name__': 'agent'})"
)
_BEGIN_S: Final = 30.0
_SHOWN: Final = 80


class Agent(Closing):
    """An agent on a node. Raises PeerLost, with its last output, if it cannot be started or exits."""

    def __init__(self, node: Node, source: bytes = _SOURCE, ssh: Sequence[str] = ()) -> None:
        """`source` is the agent's Python code; `ssh` the options of ssh, instead of `plain_options`."""
        self.node = node
        self._one_at_a_time = threading.Lock()
        self._process = _start(node, len(source), ssh or plain_options(node))
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._in, self._out = self._process.stdin, self._process.stdout
        self._waiting = self._beside = b""
        try:
            self._write(source)
            self.ask(_BEGIN_S, do="clock")
        except BaseException:
            self.close()
            raise

    def ask(self, timeout_s: float, **request: Any) -> dict[str, Any]:
        """The agent's answer to one request; thread-safe. Raises Timeout without an answer."""
        with self._one_at_a_time:
            self._write(json.dumps(request).encode() + b"\n")
            return self._answer(timeout_s)

    def clock_offset(self) -> ClockOffset:
        """The offset of the node's clock to this machine's."""
        return measure(lambda: float(self.ask(_BEGIN_S, do="clock")["now_s"]))

    def close(self) -> None:
        """Kills the agent."""
        self._process.kill()
        self._process.wait()
        for end in (self._in, self._out, self._process.stderr):
            if end is not None:
                end.close()

    def _write(self, data: bytes) -> None:
        try:
            self._in.write(data)
            self._in.flush()
        except OSError:
            raise self._gone() from None

    def _answer(self, timeout_s: float) -> dict[str, Any]:
        """The next line with the agent's mark; other output, as of a login shell, is skipped."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            before, mark, answer = self._line(timeout_s, deadline_s).partition(MARK.encode())
            if mark:
                found: dict[str, Any] = json.loads(answer)
                return found
            self._beside = before

    def _line(self, timeout_s: float, deadline_s: float) -> bytes:
        with selectors.DefaultSelector() as selector:
            selector.register(self._out, selectors.EVENT_READ)
            while b"\n" not in self._waiting:
                if not selector.select(max(0.0, deadline_s - time.monotonic())):
                    raise Timeout(
                        f"the agent on {self.node.name} did not answer for {timeout_s:g} s{self._aside()}"
                    )
                got = os.read(self._out.fileno(), 65536)
                if not got:
                    raise self._gone()
                self._waiting += got
        line, _, self._waiting = self._waiting.partition(b"\n")
        return line

    def _gone(self) -> PeerLost:
        self._process.kill()
        self._waiting += self._out.read() or b""  # its output before it exited
        stderr = cast(IO[bytes], self._process.stderr)
        words = stderr.read().decode(errors="replace").strip().splitlines()
        last = words[-1] if words else f"it exited without output{self._aside()}"
        return PeerLost(f"no agent on {self.node.name}: {last}")

    def _aside(self) -> str:
        """The output of other programs on the connection, if any."""
        output = (self._waiting.strip() or self._beside.strip()).decode(errors="replace")
        return f"; another program printed {output[:_SHOWN]!r}" if output else ""


def plain_options(node: Node) -> list[str]:
    """Options of ssh for a node: nothing is asked on the terminal, and connecting has a limit."""
    file = ["-F", node.ssh_config] if node.ssh_config else []
    return [*file, "-o", "BatchMode=yes", "-o", "ConnectTimeout=8"]


def _start(node: Node, size: int, ssh: Sequence[str]) -> "subprocess.Popen[bytes]":
    pipes: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    loader = _LOADER.replace("SIZE", str(size))
    loaded = [node.python or ("python3" if node.ssh else sys.executable), "-u", "-c", loader]
    try:
        if node.lab:
            return lab_node(node.name, node.lab).popen(loaded, bufsize=0, **pipes)
        words = ["ssh", *ssh, node.ssh, "--", shlex.join(loaded)] if node.ssh else loaded
        return subprocess.Popen(words, bufsize=0, **pipes)
    except OSError as error:
        raise PeerLost(f"no agent on {node.name}: {error.filename}: {error.strerror}") from None
