"""Starting and watching programs on nodes, with a program in place of splitfl that only waits.

The real programs run in test_ssh_run.py.
"""

import dataclasses
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from splitfl.core.errors import ConfigError, PeerLost
from testbed.inventory.load import load, read
from testbed.inventory.nodes import Inventory
from testbed.remote import node_agent, run
from testbed.remote.deployment import Deployment, DeploymentFolder
from testbed.remote.fleet import Fleet
from testbed.remote.run import RemoteRun
from testbed.remote.status import NodeStatus

PROGRAM = """
import pathlib, sys, time
here = pathlib.Path.cwd()
if sys.argv[1] == "serve":
    folder = here / "runs" / "toy-1"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "server.json").write_text("{}")
print(" ".join(sys.argv[1:3]), flush=True)
while not (end := here / "end").exists():
    time.sleep(0.02)
sys.exit(int(end.read_text()))
"""


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_POLL_S", 0.05)
    monkeypatch.setattr(run, "_RETRY_S", 0.1)


@pytest.fixture
def inventory(tmp_path: Path) -> Iterator[Inventory]:
    """Three deployed nodes on this machine."""
    nodes = {name: {"folder": str(tmp_path / name), "python": sys.executable} for name in ("gpu", "a", "b")}
    made = read({"server": "gpu", "nodes": nodes})
    for node in made.members:
        node_agent.prepare(node.folder, "1", "a")
        site = Path(node.folder) / "versions" / "1" / "site"
        site.mkdir()
        (site / "testbed").symlink_to(Path(node_agent.__file__).parents[1])
        (site / "experiments.py").write_text(PROGRAM)
        node_agent.activate(node.folder, "1", {})
    yield made
    for node in made.members:
        node_agent.remove(node.folder, [])


def deployment(on_loss: str) -> Deployment:
    settings = {"task": {"data": ""}, "transport": {"name": "grpc"}, "fault_tolerance": {"on_loss": on_loss}}
    plain: dict[str, Any] = {"name": "toy", "transport": "grpc", "address": "gpu", "host": "gpu", "wheel": ""}
    return Deployment(**plain, settings=settings, port=1, listen_port=1, model="", data="", version="1")


class Watched:
    """A run, and the sentences that it has noted."""

    def __init__(self, fleet: Fleet, inventory: Inventory, tmp_path: Path, on_loss: str) -> None:
        self.notes: list[str] = []
        session = DeploymentFolder(tmp_path / "nodes.toml")
        self.run = RemoteRun(fleet, inventory, deployment(on_loss), session, self.notes.append)
        self.run.start()
        self.states = self.run.watch()

    def until(self, node: str, state: str, starts: int = 1) -> NodeStatus:
        """Watches until a node is in this state."""
        for _ in range(400):
            one = next(one for one in next(self.states) if one.node.name == node)
            if one.state == state and one.program.get("starts") == starts:
                return one
        raise AssertionError(f"{node} is {one.state} after {one.program.get('starts')} starts")


@pytest.mark.slow
def test_the_channel_is_not_started_for_nodes_that_lack_the_deployment(
    inventory: Inventory, tmp_path: Path
) -> None:
    nodes = tmp_path / "nodes.toml"
    lines = ['server = "gpu"']
    for one in inventory.members:
        lines += [f"[nodes.{one.name}]", f'folder = "{one.folder}"', f'python = "{one.python}"']
    nodes.write_text("\n".join([*lines, '[hooks]\nstart_channel = "touch started"']))
    session = DeploymentFolder(nodes)
    session.keep_nodes(load(nodes).members)
    made = deployment("abort")
    settings = {**made.settings, "federation": {"rounds": 1}}
    session.write(dataclasses.replace(made, version="2", settings=settings))
    result = CliRunner().invoke(main, ["testbed", "run", "--nodes", str(nodes)])
    assert "gpu has version 1, not 2: use `splitfl testbed deploy` first" in result.stderr
    assert not (tmp_path / "started").exists()


def end(inventory: Inventory, code: int) -> None:
    """Lets all programs end."""
    for node in inventory.members:
        (Path(node.folder) / "run" / "end").write_text(str(code))


def test_the_server_starts_first_and_a_lost_client_is_started_again(
    inventory: Inventory, tmp_path: Path
) -> None:
    with Fleet(inventory.members) as fleet:
        watched = Watched(fleet, inventory, tmp_path, "continue")
        assert watched.notes == ["gpu: the server starts", "a: client 0 starts", "b: client 1 starts"]
        assert watched.run.is_running()
        client = watched.until("b", "running")
        os.kill(client.program["pid"], signal.SIGKILL)
        watched.until("b", "running", starts=2)
        assert watched.notes[-1] == "b: client 1 starts"
        end(inventory, 0)
        last = list(watched.states)[-1]
        assert [one.state for one in last] == ["done", "done", "done"]
        with pytest.raises(ConfigError, match=r"the run of this deployment is done"):
            watched.run.start()
        assert {
            name: len(offsets) for name, offsets in DeploymentFolder(tmp_path / "nodes.toml").clocks().items()
        } == {**dict.fromkeys(("gpu", "a", "b"), 2)}


def test_with_abort_a_lost_client_stays_lost_and_a_failed_server_ends_the_run(
    inventory: Inventory, tmp_path: Path
) -> None:
    with Fleet(inventory.members) as fleet:
        watched = Watched(fleet, inventory, tmp_path, "abort")
        os.kill(watched.until("a", "running").program["pid"], signal.SIGKILL)
        watched.until("a", "lost")
        end(inventory, 1)
        last = list(watched.states)[-1]
    assert [one.state for one in last] == ["failed", "lost", "failed"]
    assert len(watched.notes) == 3


def test_a_lost_server_resumes_its_run(inventory: Inventory, tmp_path: Path) -> None:
    with Fleet(inventory.members) as fleet:
        watched = Watched(fleet, inventory, tmp_path, "rollback")
        os.kill(watched.until("gpu", "running").program["pid"], signal.SIGKILL)
        resumed = watched.until("gpu", "running", starts=2)
        assert watched.notes[-1] == "gpu: the server resumes toy-1"
        assert resumed.run["listens"]


def test_a_repeated_command_watches_without_a_client_that_is_out_of_reach(
    inventory: Inventory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Fleet(inventory.members) as fleet:
        Watched(fleet, inventory, tmp_path, "continue")
    with Fleet(inventory.members) as fleet:
        fleet.lost("a", "no route")
        monkeypatch.setattr(run, "_RETRY_S", 1e9)
        again = Watched(fleet, inventory, tmp_path, "continue")
        assert again.notes == []
        next(again.states)
        assert again.notes == ["a: not reachable, its programs may continue: no route"]
        monkeypatch.setattr(run, "_RETRY_S", 0.0)
        again.until("a", "running")
        assert "a: reachable again" in again.notes


def test_a_server_that_ends_before_it_listens_is_reported_with_its_last_line(
    inventory: Inventory, tmp_path: Path
) -> None:
    site = Path(inventory.server.folder) / "versions" / "1" / "site"
    (site / "experiments.py").write_text("raise SystemExit('Error: port 1 is taken')")
    with (
        Fleet(inventory.members) as fleet,
        pytest.raises(PeerLost, match=r"^gpu: the server ended: port 1 is"),
    ):
        Watched(fleet, inventory, tmp_path, "continue")
