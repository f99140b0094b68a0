"""Labs that stand: what passes their firewalls, two at once, and one whose daemon is killed."""

import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from splitfl.core.errors import ConfigError
from testbed.errors import CommandFailed
from testbed.lab import control, state
from testbed.lab.build import Lab
from testbed.lab.plan import find
from testbed.namespaces import Namespace, started_at
from tests.command import Command, Start, splitfl
from tests.testbed.waiting import until

pytestmark = [
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
CONNECT = """
import socket
try:
    socket.create_connection(({host!r}, {port}), 0.5)
    print('open')
except TimeoutError:
    print('silent')
"""
LISTEN = (
    "import socket, time; end = socket.create_server(('', {port})); print('on', flush=True); time.sleep(60)"
)

Run = Callable[..., Command]


@pytest.fixture
def lab_command(start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """`splitfl lab` with a runtime directory of its own; what it left standing is taken down."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "runtime"))
    (tmp_path / "runtime").mkdir(mode=0o700)
    yield lambda *words: splitfl(start, tmp_path, "lab", *words)
    for name in state.names():
        if (found := state.LabState.read(name)) is not None and found.is_up:
            control.down(name)


def passes(nodes: dict[str, Namespace], source: str, target: str, port: int) -> bool:
    """Whether a connection from one node to another comes to be, where somebody listens."""
    listener = nodes[target].popen([sys.executable, "-c", LISTEN.format(port=port)], stdout=-1)
    try:
        assert listener.stdout is not None
        assert listener.stdout.readline() == b"on\n"
        return (
            nodes[source].run([sys.executable, "-c", CONNECT.format(host=target, port=port)], 10) == "open\n"
        )
    finally:
        listener.kill()
        listener.communicate()


def test_the_firewall_permits_exactly_the_plans_connections() -> None:
    with Lab(find("colosseum-firewall")) as lab:
        assert passes(lab.nodes, "srn2", "gpu", 50051)
        assert not passes(lab.nodes, "srn2", "gpu", 50052)
        assert not passes(lab.nodes, "gpu", "srn2", 50051)
        assert passes(lab.nodes, "srn2", "srn3", 50052)
        assert "packets 0" not in lab.nodes["firewall"].run(["nft", "list", "counters"], 10)


def test_without_a_firewall_everything_is_open_and_behind_one_only_the_broker() -> None:
    with Lab(find("open")) as lab, Lab(find("broker-only")) as closed:
        assert passes(lab.nodes, "srn2", "gpu", 50052)
        assert passes(lab.nodes, "gpu", "srn2", 50052)
        assert passes(closed.nodes, "srn2", "broker", 1883)
        assert passes(closed.nodes, "gpu", "broker", 1883)
        assert not passes(closed.nodes, "srn2", "gpu", 50051)


def test_two_labs_run_concurrently_and_end_separately(lab_command: Run) -> None:
    one, two = lab_command("up", "open", "--lab", "one"), lab_command("up", "--lab", "two")
    assert (one.code(), two.code()) == (0, 0), one.complained() + two.complained()
    again = lab_command("up", "--lab", "one")
    assert again.code() == 2
    assert "the lab 'one' is already up" in again.complained()
    inside = lab_command("run", "--lab", "two", "srn2", "--", "getent", "hosts", "gpu")
    assert inside.code() == 0
    assert inside.output.read_text().split()[0] == "10.100.13.153"
    assert lab_command("run", "--lab", "two", "srn2", "--", "sh", "-c", "exit 7").code() == 7
    left = list(find_nodes("two").values())
    assert lab_command("down", "--lab", "one").code() == 0
    assert all(Path("/run/netns", name).exists() for name in left)
    assert lab_command("down", "--lab", "two").code() == 0
    assert not any(Path("/run/netns", name).exists() for name in left)
    assert lab_command("down", "--lab", "two").code() == 2


def test_down_ends_the_processes_in_a_lab(lab_command: Run) -> None:
    assert lab_command("up", "open").code() == 0
    running = lab_command("run", "srn2", "--", "sleep", "600")
    until(lambda: "sleep" in psutil.Process(running.process.pid).cmdline()[:1])
    assert lab_command("down").code() == 0
    assert running.code() == -signal.SIGTERM


def test_a_killed_lab_is_reported_once_and_leaves_nothing(lab_command: Run) -> None:
    assert lab_command("up", "open").code() == 0
    found = state.LabState.read("lab")
    assert found is not None
    running = lab_command("run", "srn2", "--", "sleep", "600")
    until(lambda: "sleep" in psutil.Process(running.process.pid).cmdline()[:1])
    os.kill(found.daemon, signal.SIGKILL)
    until(lambda: not found.is_up)
    refused = lab_command("run", "srn2", "--", "true")
    assert refused.code() == 2
    assert "its daemon was killed" in refused.complained()
    told = lab_command("status")
    assert told.code() == 0
    assert "lab (open): was killed; its leftovers are removed" in told.output.read_text()
    assert not any(Path("/run/netns", name).exists() for name in found.nodes.values())
    assert running.code() == -signal.SIGKILL
    after = lab_command("status")
    assert after.code() == 0
    assert after.output.read_text() == "no lab is up\n"


def test_unknown_names_are_refused_with_the_nearest(lab_command: Run) -> None:
    assert lab_command("up", "open").code() == 0
    wrong = lab_command("run", "srn", "--", "true")
    assert wrong.code() == 2
    assert "has no node 'srn'; did you mean 'srn" in wrong.complained()
    with pytest.raises(ConfigError, match="there is no lab 'other'; up: lab"):
        control.node("srn2", "other")


def test_a_lab_that_cannot_be_built_leaves_nothing(tmp_path: Path) -> None:
    text = (
        '[networks]\na0 = "10.1.0.0/24"\n[nodes.one]\nrole = "radio"\na0 = "10.1.0.2"\n'
        'routes = { default = "10.9.9.9" }\n'
    )
    (tmp_path / "bad.toml").write_text(text)
    mark = f"-{os.getpid()}-{started_at(os.getpid())}-"
    with pytest.raises(CommandFailed, match="Nexthop has invalid gateway"):
        Lab(find(str(tmp_path / "bad.toml")))
    assert not [entry.name for entry in Path("/run/netns").iterdir() if mark in entry.name]


def test_a_firewall_without_nft_is_refused_before_anything_is_begun(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for program in ("ip", "setpriv"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match=r"needs the program `nft` \(Debian: nftables\)"):
        control.up("colosseum-firewall", "lab")


def find_nodes(name: str) -> dict[str, str]:
    found = state.LabState.read(name)
    assert found is not None
    return dict(found.nodes)
