"""Namespaces: made, joined, entered, and gone with their owner."""

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from splitfl.core.errors import ConfigError, Timeout
from testbed.errors import CommandFailed, NotRoot
from testbed.namespaces import Namespace, need_root, reap, started_at, veth
from tests.testbed.waiting import until

root = pytest.mark.root
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
NAMED = Path("/run/netns")

OWNER = """
import sys, time
from testbed.namespaces import Namespace
space = Namespace("left", hosts="127.0.0.1 localhost\\n")
child = space.popen([sys.executable, "-c", "import time; time.sleep(600)"])
free = space.popen(["setsid", "setpriv", "--pdeathsig", "clear", "sleep", "600"])
time.sleep(0.3)
print(space.name, child.pid, free.pid, flush=True)
time.sleep(600)
"""


def own() -> list[str]:
    mark = f"-{os.getpid()}-{started_at(os.getpid())}-"
    return sorted(entry.name for entry in NAMED.iterdir() if mark in entry.name) if NAMED.exists() else []


@root
@needs_root
def test_two_namespaces_talk_over_a_cable_and_leave_nothing() -> None:
    with Namespace("a") as a, Namespace("b", hosts="10.77.1.1 alpha\n") as b:
        veth(a, "eth0", "10.77.1.1/24", b, "eth0", "10.77.1.2/24")
        with a.inside():
            listener = socket.create_server(("10.77.1.1", 5000))
        with (
            listener,
            b.popen(
                [sys.executable, "-c", "import socket; socket.create_connection(('alpha', 5000), 10).recv(1)"]
            ),
        ):
            met, (address, _) = listener.accept()
            met.close()
            assert address == "10.77.1.2"
        assert len(own()) == 2
    assert own() == []


@root
@needs_root
def test_loopback_is_up_inside_and_only_this_thread_is_there() -> None:
    home = Path("/proc/thread-self/ns/net").readlink()
    go, elsewhere = threading.Event(), []

    def look() -> None:
        go.wait(10)
        elsewhere.append(Path("/proc/thread-self/ns/net").readlink())

    other = threading.Thread(target=look)
    other.start()
    with Namespace("alone") as space, space.inside():
        with socket.create_server(("127.0.0.1", 0)) as listener:
            socket.create_connection(listener.getsockname(), timeout=5).close()
        assert [name for _, name in socket.if_nameindex()] == ["lo"]
        assert Path("/proc/thread-self/ns/net").readlink() != home
        go.set()
        other.join()
    assert elsewhere == [home]
    assert Path("/proc/thread-self/ns/net").readlink() == home


@root
@needs_root
def test_namespaces_of_a_killed_owner_are_removed_with_their_processes(
    start: Callable[..., "subprocess.Popen[bytes]"], tmp_path: Path
) -> None:
    output = tmp_path / "owner"
    owner = start(sys.executable, "-c", OWNER, output=output)
    until(lambda: output.read_text().endswith("\n"))
    name, child, free = output.read_text().split()
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    until(lambda: not _runs(int(child)))  # by the kernel, before anybody looks
    assert (NAMED / name).exists()
    reap()
    until(lambda: not _runs(int(free)))
    assert not (NAMED / name).exists()
    assert not Path("/etc/netns", name).exists()


@root
@needs_root
def test_a_living_owners_namespace_is_never_reaped() -> None:
    with Namespace("kept") as space:
        assert space.name not in reap()
        assert own() == [space.name]


@root
@needs_root
def test_all_processes_in_a_namespace_are_killed_and_it_stays() -> None:
    with Namespace("killed") as space:
        running = [space.popen([sys.executable, "-c", "import time; time.sleep(600)"]) for _ in range(2)]
        space.kill()
        assert [process.wait(10) for process in running] == [-signal.SIGKILL] * 2
        assert space.run(["echo", "still there"], 10) == "still there\n"


@root
@needs_root
def test_a_process_started_by_a_thread_outlives_the_thread() -> None:
    with Namespace("thread") as space:
        started: list[subprocess.Popen[bytes]] = []
        thread = threading.Thread(target=lambda: started.append(space.popen(["sleep", "600"])))
        thread.start()
        thread.join()
        with pytest.raises(subprocess.TimeoutExpired):
            started[0].wait(0.3)
    assert started[0].wait(5) == -signal.SIGTERM


@root
@needs_root
def test_a_failing_or_hanging_program_in_a_namespace_is_reported() -> None:
    with Namespace("bad") as space:
        with pytest.raises(CommandFailed, match="ended with 3: oh no"):
            space.run(["sh", "-c", "echo oh no >&2; exit 3"], 5)
        with pytest.raises(Timeout, match=r"did not end within 0\.1 s"):
            space.run(["sleep", "600"], 0.1)
        assert space.run(["echo", "yes"], 5) == "yes\n"


@root
@needs_root
def test_a_namespace_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match="there is no namespace 'splitfl-1-1-x'"):
        Namespace.attach("splitfl-1-1-x")


@root
@needs_root
def test_a_bad_cable_is_refused() -> None:
    with Namespace("a") as a, Namespace("b") as b:
        with pytest.raises(ConfigError, match="at most 15 lower-case letters"):
            veth(a, "an-interface-too-long", "10.0.0.1/24", b, "eth0", "10.0.0.2/24")
        with pytest.raises(ConfigError, match=r"like 10\.77\.1\.1/24, got '10\.0\.0\.300'"):
            veth(a, "eth0", "10.0.0.300", b, "eth0", "10.0.0.2/24")


def test_a_bad_tag_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"lower-case letters, digits and dashes, got '\.\./x'"):
        Namespace("../x")


def test_missing_root_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(NotRoot, match="network namespaces need root; run with sudo"):
        need_root("network namespaces")


def _runs(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
