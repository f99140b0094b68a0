"""Reaches nodes by the system's ssh, with one kept connection for each, and copies files by its rsync.

ssh reads the user's own configuration, asks nothing (BatchMode) and gives up in time. A node without `ssh`
is this machine, or a namespace of it: its files are this machine's.
"""

import hashlib
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from splitfl.core.errors import ConfigError, PeerLost
from testbed.doctor.access import plain_options
from testbed.errors import CommandFailed
from testbed.inventory.nodes import Node
from testbed.runtime_folder import runtime_folder

CONNECT_S: Final = 9.5
_KEPT_S: Final = 60
_EXIT_S: Final = 5.0
_IDLE_S: Final = 60
_COPY_S: Final = 3600.0
_LONGEST_SOCKET: Final = 104 - len(".0123456789abcdef")  # ssh adds a random end while it connects
_THROUGH_GATEWAY: Final = "by UNKNOWN port 65535"
_DENIED: Final = "Permission denied"
_DROPPED: Final = "kex_exchange_identification"
"""What ssh prints where a server has too many connections that are not yet authenticated (MaxStartups)."""
# A copy must not outlive this process and overwrite what a repetition writes; not every system has setpriv.
_WITH_PARENT: Final = ["setpriv", "--pdeathsig", "TERM", "--"] if shutil.which("setpriv") else []
_CHANGED: Final = "REMOTE HOST IDENTIFICATION HAS CHANGED"


def options(node: Node) -> list[str]:
    """Options of ssh for a kept connection to this node, which also ends when the node falls silent."""
    alive = ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
    kept = ["-o", "ControlMaster=auto", "-o", f"ControlPersist={_KEPT_S}"]
    return [*plain_options(node), *alive, *kept, "-o", f"ControlPath={_socket(node)}"]


def connect(node: Node) -> None:
    """Opens the kept connection, within CONNECT_S. Raises PeerLost with one sentence.

    A connection that a busy gateway drops is tried again, at times that differ between nodes.
    """
    if not node.ssh:
        return
    deadline_s = time.monotonic() + CONNECT_S
    wait_s = 0.2 + hashlib.sha256(node.ssh.encode()).digest()[0] / 256
    while (errors := _connect(node, options(node), deadline_s)) is not None:
        if _THROUGH_GATEWAY in errors:  # a kept connection discards the gateway's own words
            with suppress(PeerLost):
                errors = _connect(node, plain_options(node), deadline_s) or _DROPPED
        is_dropped = _DROPPED in errors and _DENIED not in errors
        if not is_dropped or time.monotonic() + wait_s > deadline_s:
            raise PeerLost(sentence(node.ssh, errors))
        time.sleep(wait_s)


def disconnect(node: Node) -> None:
    """Closes the kept connection, if there is one."""
    if node.ssh and Path(_socket(node)).exists():
        subprocess.run(
            ["ssh", *options(node), "-O", "exit", node.ssh],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_EXIT_S,
            check=False,
        )


def push(node: Node, sources: Sequence[Path], target: str, *, exactly: bool = False) -> None:
    """Copies files and folders into a folder on the node, relative to the home folder there.

    The parent of the target must exist. A source folder becomes a folder of its name, whose other content
    is removed; `exactly` copies the content of one folder, so that the target holds nothing else. Raises
    CommandFailed and PeerLost.
    """
    names = [f"{source}/" if exactly else str(source) for source in sources]
    _rsync(node, ["--copy-links", "--delete", *names, _place(node, f"{target}/")])


def pull(node: Node, source: str, target: Path, *, leave_out: Sequence[str] = ()) -> None:
    """Copies the content of a folder on the node into a folder here."""
    target.mkdir(parents=True, exist_ok=True)
    filters = [f"--exclude={pattern}" for pattern in leave_out]
    _rsync(node, [*filters, _place(node, f"{source}/"), f"{target}/"])


def pull_path(node: Node, source: str, target: Path) -> None:
    """Copies a file or a folder on the node, relative to the home folder there, into a folder here."""
    target.mkdir(parents=True, exist_ok=True)
    _rsync(node, [_place(node, source), f"{target}/"])


def sentence(host: str, errors: str) -> str:
    """What ssh reported, in one sentence with the remedy."""
    lines = [line for line in errors.strip().splitlines() if line.strip()]
    if _CHANGED in errors:
        return (
            f"the host key of {host} has changed: if that is expected, as after a new image, remove the old "
            "one by `ssh-keygen -R`"
        )
    if "Host key verification failed" in errors:
        return f"the host key of {host} is not known: connect once by `ssh {host}` and check it"
    denied = next((line.strip() for line in lines if _DENIED in line), "")
    if denied:
        return f"{host} refuses your key, and would ask for a password: {denied}"
    if _THROUGH_GATEWAY in errors:
        why = "as it does for a refused key, or where too many begin at once"
        return f"the gateway of {host} closed the connection, {why}: try `ssh {host}`"
    if _DROPPED in errors:
        return f"{host} drops connections, as where too many begin at once: try `ssh {host}`"
    return lines[-1].strip() if lines else f"ssh to {host} failed without a message"


def need_programs(nodes: Sequence[Node]) -> None:
    """Raises ConfigError if ssh or rsync is missing on this machine."""
    needed = {"rsync": "rsync"} | ({"ssh": "openssh-client"} if any(node.ssh for node in nodes) else {})
    for program, package in needed.items():
        if shutil.which(program) is None:
            raise ConfigError(f"`splitfl testbed` needs the program `{program}` (Debian: {package})")


def _connect(node: Node, words: Sequence[str], deadline_s: float) -> str | None:
    """What ssh with these options prints if it cannot connect, else None. Raises PeerLost at the deadline."""
    with tempfile.TemporaryFile() as errors:
        try:
            done = subprocess.run(
                ["ssh", *words, node.ssh, "--", "true"],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,  # no pipe: the kept connection would hold it open
                timeout=max(0.0, deadline_s - time.monotonic()),
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise PeerLost(f"no connection to {node.ssh} within {CONNECT_S:g} s") from None
        except OSError as error:
            raise PeerLost(f"ssh: {error.strerror}") from None
        errors.seek(0)
        return errors.read().decode(errors="replace") if done.returncode else None


def _rsync(node: Node, words: Sequence[str]) -> None:
    shell = ["--rsh", shlex.join(["ssh", *options(node)])] if node.ssh else []
    command = [
        *_WITH_PARENT,
        "rsync",
        "--archive",
        "--no-owner",
        "--no-group",
        f"--timeout={_IDLE_S}",
        *shell,
        *words,
    ]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_COPY_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise PeerLost(f"copying files took more than {_COPY_S:g} s") from None
    if done.returncode:
        if "rsync: command not found" in done.stderr or "rsync: not found" in done.stderr:
            raise CommandFailed("rsync is not installed there")
        first = next(iter(done.stderr.strip().splitlines()), "no message")
        raise CommandFailed(f"rsync ended with {done.returncode}: {first}")


def _place(node: Node, path: str) -> str:
    """A path on the node as rsync takes it."""
    return f"{node.ssh}:{path}" if node.ssh else str(Path.home() / path) + "/" * path.endswith("/")


def _socket(node: Node) -> str:
    name = hashlib.sha256(f"{node.ssh_config}\n{node.ssh}".encode()).hexdigest()[:12]
    path = str(runtime_folder("ssh") / name)
    if len(path) > _LONGEST_SOCKET:
        raise ConfigError(f"{path} is too long for a socket: set XDG_RUNTIME_DIR to a shorter folder")
    return path
