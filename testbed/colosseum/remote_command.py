"""Runs one program on a node of an inventory, by ssh, in a lab or on this machine."""

import shlex
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from splitfl.core.errors import PeerLost, Timeout
from testbed.inventory.nodes import Node
from testbed.lab.control import node as lab_node
from testbed.remote import ssh


@dataclass(frozen=True, kw_only=True)
class Completed:
    """The exit status of a program, and its standard output followed by its standard error."""

    code: int
    output: str

    @property
    def last_line(self) -> str:
        """Its last line, which has the reason if it failed."""
        return next(iter(self.output.strip().splitlines()[::-1]), "no output").strip()


RunCommand = Callable[[Sequence[str], float, str], Completed]
"""Runs a program with a time limit in seconds and a text as its standard input."""


def on_node(node: Node) -> RunCommand:
    """Runs programs on this node. They raise PeerLost if it cannot be reached, Timeout beyond their limit."""

    def run(argv: Sequence[str], limit_s: float, text: str) -> Completed:
        pipes: dict[str, Any] = {"input": text, "capture_output": True, "text": True, "errors": "replace"}
        try:
            ssh.connect(node)
            words = ["ssh", *ssh.options(node), node.ssh, "--", shlex.join(argv)] if node.ssh else list(argv)
            if node.lab:
                words = lab_node(node.name, node.lab).command(argv)
            done = subprocess.run(words, timeout=limit_s, check=False, **pipes)
        except PeerLost as error:
            raise PeerLost(f"{node.name}: {error}") from None
        except subprocess.TimeoutExpired:
            raise Timeout(f"{node.name}: {argv[0]} did not end within {limit_s:g} s") from None
        return Completed(code=done.returncode, output=done.stdout + done.stderr)

    return run
