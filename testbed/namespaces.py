"""Network namespaces of this machine: created, connected by veth pairs, entered, and cleaned up.

A namespace is named splitfl-PID-TICKS-N-TAG after its owner, the process that created it, and
the clock tick at which that process started. A reused PID thus has other ticks, and
namespaces of dead owners are recognised by name. Needs root, `ip` (iproute2) and
`setpriv` (util-linux).
"""

import ctypes
import ipaddress
import itertools
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, Self

from channel.core.closing import Closing
from splitfl.core.errors import ConfigError, Timeout
from testbed.errors import CommandFailed, NotRoot

_NAMED: Final = Path("/run/netns")
_FILES: Final = Path("/etc/netns")  # `ip netns exec` mounts FILES/name/hosts over /etc/hosts
_OWNED: Final = re.compile(r"splitfl-(\d+)-(\d+)-([a-z0-9]+(?:-[a-z0-9]+)*)")
_NO_DNS: Final = "nameserver 127.0.0.1\n"  # no server there, so lookups fail at once
_IP_TIMEOUT_S: Final = 30.0
_GRACE_S: Final = 2.0
_KILL_S: Final = 10.0
_CLONE_NEWNET: Final = 0x40000000

_numbers = itertools.count()


class Namespace(Closing):
    """A network namespace with its loopback up; removed, with all processes in it, when the context exits."""

    def __init__(self, tag: str, hosts: str = "") -> None:
        """Creates it; `hosts` is the content of /etc/hosts for programs in it, which then use no DNS.

        Namespaces of dead owners are removed first. Raises NotRoot, and ConfigError without `ip`.
        """
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", tag):
            raise ConfigError(
                f"a namespace's tag must consist of lower-case letters, digits and dashes, got {tag!r}"
            )
        need_root("network namespaces")
        reap()
        self.name = "-".join(("splitfl", *_identity(os.getpid()), str(next(_numbers)), tag))
        if hosts:
            (_FILES / self.name).mkdir(parents=True)
            (_FILES / self.name / "hosts").write_text(hosts, encoding="utf-8")
            (_FILES / self.name / "resolv.conf").write_text(_NO_DNS, encoding="utf-8")
        try:
            ip("netns", "add", self.name)
            ip("-n", self.name, "link", "set", "lo", "up")
        except BaseException:
            self.close()
            raise

    @classmethod
    def attach(cls, name: str) -> Self:
        """A namespace of another process, not to be closed. Raises ConfigError if it does not exist."""
        need_root("network namespaces")
        if not _OWNED.fullmatch(name) or not (_NAMED / name).exists():
            raise ConfigError(f"there is no namespace {name!r}")
        found = cls.__new__(cls)
        found.name = name
        return found

    def popen(self, argv: Sequence[str | Path], **settings: Any) -> "subprocess.Popen[Any]":
        """Starts a program in the namespace; it is killed when this process dies.

        `settings` are passed to subprocess.Popen.
        """
        command = self.command(argv)
        return _starter().submit(lambda: subprocess.Popen(command, **settings)).result()

    def command(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` in the namespace and kills it when its parent dies."""
        return self.entering(["setpriv", "--pdeathsig", "KILL", "--", *argv])

    def entering(self, argv: Sequence[str | Path]) -> list[str]:
        """The command line that runs `argv` in the namespace."""
        return ["ip", "netns", "exec", self.name, *map(str, argv)]

    def run(self, argv: Sequence[str | Path], timeout_s: float) -> str:
        """The standard output of a program run in the namespace. Raises CommandFailed and Timeout."""
        process = self.popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        return _result(process, argv, timeout_s)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Moves this thread into the namespace; sockets and devices opened in the context belong to it."""
        with (
            Path("/proc/thread-self/ns/net").open("rb") as home,
            (_NAMED / self.name).open("rb") as there,
        ):
            _set_namespace(there.fileno())
            try:
                yield
            finally:
                _set_namespace(home.fileno())

    def kill(self) -> None:
        """Kills all processes in the namespace."""
        _end_processes(self.name, grace_s=0.0)

    def close(self) -> None:
        """Ends all processes in the namespace and removes it with its interfaces."""
        _remove(self.name, _GRACE_S)


def veth(
    a: Namespace, a_name: str, a_address: str, b: Namespace, b_name: str, b_address: str, mtu: int = 1500
) -> None:
    """A veth pair between two namespaces, with addresses like 10.77.1.1/24. Raises ConfigError."""
    for name, address in ((a_name, a_address), (b_name, b_address)):
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,14}", name):
            raise ConfigError(
                f"an interface's name must be at most 15 lower-case letters and digits, got {name!r}"
            )
        try:
            ipaddress.ip_interface(address)
        except ValueError:
            raise ConfigError(f"an interface's address must be like 10.77.1.1/24, got {address!r}") from None
    size = ("mtu", str(mtu))
    ip("link", "add", a_name, *size, "netns", a.name, "type", "veth", "peer", b_name, *size, "netns", b.name)
    for side, name, address in ((a, a_name, a_address), (b, b_name, b_address)):
        ip("-n", side.name, "address", "add", address, "dev", name)
        ip("-n", side.name, "link", "set", name, "up")


def reap() -> list[str]:
    """Removes the namespaces of dead owners with all processes in them; returns their names."""
    left = []
    for folder in (_NAMED, _FILES):
        for entry in folder.iterdir() if folder.is_dir() else ():
            owner = _OWNED.fullmatch(entry.name)
            if owner and _identity(int(owner[1])) != (owner[1], owner[2]) and entry.name not in left:
                _remove(entry.name, grace_s=0.0)
                left.append(entry.name)
    return sorted(left)


def need_root(what: str) -> None:
    """Raises NotRoot without root, ConfigError if `ip` or `setpriv` is missing."""
    if os.geteuid() != 0:
        raise NotRoot(f"{what} need root; run with sudo")
    for program, package in (("ip", "iproute2"), ("setpriv", "util-linux")):
        if shutil.which(program) is None:
            raise ConfigError(f"{what} need the program `{program}` (Debian: {package})")


def ip(*command: str) -> str:
    """The output of `ip`. Raises NotRoot if this root lacks the permission, else CommandFailed."""
    process = subprocess.Popen(
        ["ip", *command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        return _result(process, ["ip", *command], _IP_TIMEOUT_S)
    except CommandFailed as error:
        if "Operation not permitted" in str(error):
            raise NotRoot(f"{error}; root of a container needs CAP_SYS_ADMIN and CAP_NET_ADMIN too") from None
        raise


def is_alive(pid: int, ticks: str) -> bool:
    """Whether the process that started at that clock tick still runs under this PID."""
    return _identity(pid) == (str(pid), ticks)


def started_at(pid: int) -> str:
    """The clock tick at which a process started, from /proc; empty if it does not run."""
    return _identity(pid)[1]


def _identity(pid: int) -> tuple[str, str]:
    """The PID and the start tick of a process (field 22 of /proc/PID/stat); "" if it does not run."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
    except OSError:
        return str(pid), ""
    return str(pid), "" if after_name[0] in "ZX" else after_name[19]


def _remove(name: str, grace_s: float) -> None:
    _end_processes(name, grace_s)
    if (_NAMED / name).exists():
        _unless_gone(name, "netns", "delete", name)
    shutil.rmtree(_FILES / name, ignore_errors=True)


def _end_processes(name: str, grace_s: float) -> None:
    """Terminates the processes in a namespace, and kills those that remain after the grace period."""
    deadline_s = time.monotonic() + grace_s
    while (_NAMED / name).exists() and (inside := _pids(name)):
        is_late = time.monotonic() >= deadline_s
        if time.monotonic() >= deadline_s + _KILL_S:
            raise CommandFailed(f"processes {inside} of the namespace {name} survive SIGKILL")
        for pid in inside:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if is_late else signal.SIGTERM)
        time.sleep(0.02)


def _pids(name: str) -> list[int]:
    return [int(pid) for pid in _unless_gone(name, "netns", "pids", name).split() if int(pid) != os.getpid()]


def _unless_gone(name: str, *command: str) -> str:
    """The output of `ip`; empty if another process has removed the namespace meanwhile."""
    try:
        return ip(*command)
    except CommandFailed:
        if (_NAMED / name).exists():
            raise
        return ""


def _result(process: "subprocess.Popen[bytes]", argv: Sequence[str | Path], timeout_s: float) -> str:
    with process:
        try:
            output, errors = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise Timeout(f"`{' '.join(map(str, argv))}` did not end within {timeout_s:g} s") from None
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        reason = errors.decode(errors="replace").strip() or "no output"
        raise CommandFailed(f"`{' '.join(map(str, argv))}` ended with {process.returncode}: {reason}")
    return output.decode(errors="replace")


def _set_namespace(descriptor: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET):
        number = ctypes.get_errno()
        raise NotRoot(f"entering a network namespace needs CAP_SYS_ADMIN: {os.strerror(number)}")


@cache
def _starter() -> ThreadPoolExecutor:
    # PDEATHSIG follows the thread that started the child, so one thread that lives as long as this process
    # starts all children.
    return ThreadPoolExecutor(1, thread_name_prefix="starter")
