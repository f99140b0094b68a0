"""`down` removes what was deployed, whatever the inventory has by then, and however often it is killed."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from experiments.cli.main import main
from testbed.inventory.load import load
from testbed.remote import node_agent
from testbed.remote.deployment import DeploymentFolder

ROOT = str(Path(__file__).parents[3])
pytestmark = pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")


def write_inventory(folder: Path, **pythons: str) -> Path:
    """Nodes of this machine with these interpreters, the first of which is the server."""
    lines = [f'server = "{next(iter(pythons))}"']
    for name, python in pythons.items():
        lines += [f"[nodes.{name}]", f'folder = "{folder / name}"', f'python = "{python}"']
    (folder / "nodes.toml").write_text("\n".join(lines))
    return folder / "nodes.toml"


def deployed(nodes: Path) -> None:
    """Gives each node a version, and the session the nodes."""
    members = load(nodes).members
    DeploymentFolder(nodes).keep_nodes(members)
    for node in members:
        node_agent.prepare(node.folder, "1", node.name)
        node_agent.activate(node.folder, "1", {})


def down(nodes: Path, *words: str) -> Result:
    return CliRunner().invoke(main, ["testbed", "down", "--nodes", str(nodes), *words])


def test_down_removes_a_node_that_has_left_the_inventory(tmp_path: Path) -> None:
    nodes = write_inventory(tmp_path, gpu=sys.executable, a=sys.executable, b=sys.executable)
    deployed(nodes)
    write_inventory(tmp_path, gpu=sys.executable, a=sys.executable)
    result = down(nodes)
    assert result.exit_code == 0, result.stderr
    assert result.stderr.split() == [word for name in ("gpu", "a", "b") for word in (f"{name}:", "removed")]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nodes.toml"]


def test_a_node_that_is_gone_keeps_the_session_until_it_is_forgotten(tmp_path: Path) -> None:
    nodes = write_inventory(tmp_path, gpu=sys.executable, a=sys.executable)
    deployed(nodes)
    write_inventory(tmp_path, gpu=sys.executable, a="/no/python")
    DeploymentFolder(nodes).keep_nodes(load(nodes).members)
    result = down(nodes)
    assert result.exit_code == 1
    assert "1 of 2 nodes: not cleaned; repeat `down` once they can be reached, or `down --" in result.stderr
    assert DeploymentFolder(nodes).nodes()
    result = down(nodes, "--forget")
    assert result.exit_code == 0
    assert "gpu: nothing was there" in result.stderr
    assert "a: forgotten, whatever is there: no agent on a: /no/python" in result.stderr
    assert not DeploymentFolder(nodes).folder.exists()


@pytest.mark.slow
def test_a_hook_that_fails_does_not_keep_the_nodes_from_being_cleaned(tmp_path: Path) -> None:
    nodes = write_inventory(tmp_path, gpu=sys.executable, a=sys.executable)
    deployed(nodes)
    with nodes.open("a") as file:
        file.write('\n[hooks]\nstop_channel = "exit 3"\n')
    result = down(nodes)
    assert result.exit_code == 1
    assert "hooks.stop_channel ended with exit code 3" in result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["nodes.toml"]


KILLED_AT = """
import os, signal, sys
from testbed.remote import node_agent

left = int(sys.argv[2])

def hook(event, arguments):
    global left
    if event in ("os.remove", "os.rmdir", "os.mkdir", "os.rename", "os.link"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(hook)
if sys.argv[3] == "prepare":
    node_agent.prepare(sys.argv[1], "1", "a")
else:
    node_agent.remove(sys.argv[1], [])
"""


@pytest.mark.slow
@pytest.mark.parametrize("action", ["prepare", "remove"])
def test_a_folder_whose_preparation_or_removal_was_killed_anywhere_is_removed(
    tmp_path: Path, action: str
) -> None:
    folder, changes, code = tmp_path / "node", 0, -signal.SIGKILL
    while code == -signal.SIGKILL:
        if action == "remove":
            node_agent.prepare(str(folder), "1", "a")
            node_agent.activate(str(folder), "1", {})
            (folder / "run" / "client.log").write_text("1.0 joins\n")
        words = [sys.executable, "-c", KILLED_AT, str(folder), str(changes), action]
        code = subprocess.run(words, env={**os.environ, "PYTHONPATH": ROOT}, timeout=60).returncode
        node_agent.remove(str(folder), [])
        assert not folder.exists(), f"killed after {changes} changes"
        changes += 1
    assert code == 0
    assert changes > 5
