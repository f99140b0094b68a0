"""The merged folder: what it takes from each node, what it restores, and on whose clock its times are."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from splitfl.core.errors import ConfigError
from testbed.clocks import ClockOffset, NodeClock
from testbed.inventory.load import load, read
from testbed.inventory.nodes import Inventory
from testbed.remote import node_agent
from testbed.remote.collect import collect
from testbed.remote.deployment import Deployment, DeploymentFolder
from testbed.remote.fleet import Fleet
from tests.command import Start, splitfl

ROOT = str(Path(__file__).parents[3])


@pytest.fixture
def inventory(tmp_path: Path) -> Inventory:
    nodes = {name: {"folder": str(tmp_path / name), "python": sys.executable} for name in ("gpu", "a", "b")}
    nodes["a"]["radio_log"] = str(tmp_path / "link.jsonl")
    nodes["b"]["python"] = "/no/python"
    return read({"server": "gpu", "nodes": nodes})


@pytest.fixture
def deployment() -> Deployment:
    settings = {"model": {"name": "minilm"}, "task": {"data": ""}, "transport": {"secrets": ""}}
    plain = {"name": "toy", "transport": "rpc", "address": "gpu", "host": "gpu", "wheel": "", "data": ""}
    return Deployment(settings=settings, port=1, listen_port=1, model="/m", version="1", **plain)  # type: ignore[arg-type]


def write_node(folder: Path, program: str, *lines: tuple[float, str]) -> None:
    """A deployed node whose program has ended."""
    node_agent.prepare(str(folder), "1", "a")
    node_agent.activate(str(folder), "1", {"versions": {"torch": "2"}})
    record = {"pid": 1, "ticks": "", "boot": "", "started_s": lines[0][0], "starts": 1}
    record |= {"ended_s": lines[-1][0], "code": 0}
    for name, sent in (("network", 3), ("network_at_end", 10)):
        tcp = {"sent": sent, "retransmitted": 2}
        record[name] = {"interfaces": {"wlan0": {"sent_bytes": 9 * sent}}, "tcp_segments": tcp}
    (folder / "run" / f"{program}.json").write_text(json.dumps(record))
    text = "".join(f"{stamp_s:.6f} {line}\n" for stamp_s, line in lines)
    (folder / "run" / f"{program}.log").write_text(text + "unfini")


def write_finished_run(folder: Path) -> None:
    """A run of the server gpu and its client a."""
    write_node(folder / "gpu", "server", (1000.0, "listens"), (1020.0, "ends"))
    write_node(folder / "a", "client", (1001.0, "joins"), (1015.0, "leaves"))
    run = folder / "gpu" / "run" / "runs" / "toy-1"
    (run / "checkpoint").mkdir(parents=True)
    (run / "checkpoint" / "big").write_text("")
    (run / "adapter").mkdir()
    config = {"model": {"name": "/on/gpu/model"}, "task": {"data": ""}, "transport": {"secrets": "/on/gpu/s"}}
    (run / "config.json").write_text(json.dumps(config))
    (run / "summary.json").write_text(json.dumps({"status": "done", "model": "/on/gpu/model"}))
    (run / "adapter" / "adapter_config.json").write_text(json.dumps({"base": "/on/gpu/model"}))
    (folder / "link.jsonl").write_text("{}")


def test_logs_of_all_nodes_are_merged_on_this_clock_and_the_missing_node_is_named(
    tmp_path: Path, inventory: Inventory, deployment: Deployment
) -> None:
    now_s = time.time()
    began_s = now_s - 1000
    write_node(tmp_path / "gpu", "server", (began_s, "listens"), (began_s + 20, "ends"))
    write_node(tmp_path / "a", "client", (began_s + 500, "joins"), (began_s + 505, "leaves"))
    run = tmp_path / "gpu" / "run" / "runs" / "toy-1"
    (run / "checkpoint").mkdir(parents=True)
    (run / "checkpoint" / "big").write_text("")
    config = {"model": {"name": "/on/gpu/model"}, "task": {"data": ""}, "transport": {"secrets": "/on/gpu/s"}}
    (run / "config.json").write_text(json.dumps(config))
    (run / "summary.json").write_text(json.dumps({"status": "done", "model": "/on/gpu/model"}))
    (tmp_path / "link.jsonl").write_text("{}")
    session = DeploymentFolder(tmp_path / "nodes.toml")
    # As after a step: a's clock was 490 s ahead until the run had ended.
    steps = [ClockOffset(at_s=began_s + at_s, ahead_s=490.0, within_s=0.5) for at_s in (-100, 200)]
    for step in steps:
        session.add_clocks({"a": step})

    with Fleet(inventory.members) as fleet:
        found = collect(fleet, inventory, deployment, session, tmp_path / "runs")

    folder, missing = found.folder, found.missing
    assert missing == {"b": "no agent on b: /no/python: No such file or directory"}
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "nodes", "nodes.json", "summary.json", "timeline.log")
    ]
    assert json.loads((folder / "config.json").read_text()) == deployment.settings
    assert json.loads((folder / "summary.json").read_text())["model"] == "minilm"
    lines = (folder / "timeline.log").read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == [
        *("gpu server: listens", "a client: joins", "a client: leaves", "gpu server: ends")
    ]
    rows = {row["node"]: row for row in json.loads((folder / "nodes.json").read_text())}
    assert rows["a"]["started_s"] == pytest.approx(NodeClock(steps).here(began_s + 500)[0])
    assert rows["a"]["started_s"] == pytest.approx(began_s + 10)
    assert rows["a"]["started_within_s"] == 0.5
    assert rows["a"]["network"] == {
        "interfaces": {"wlan0": {"sent_bytes": 63}},
        "tcp_segments": {"sent": 7, "retransmitted": 0},
    }
    assert (folder / "nodes" / "a" / "radio" / "link.jsonl").read_text() == "{}"
    assert rows["b"]["missing"] == missing["b"]
    assert found.run == ""


def test_nothing_to_collect_is_said_with_the_reasons(
    tmp_path: Path, inventory: Inventory, deployment: Deployment
) -> None:
    with (
        Fleet(inventory.members) as fleet,
        pytest.raises(ConfigError, match=r"nothing to collect.*b: no agent"),
    ):
        collect(fleet, inventory, deployment, DeploymentFolder(tmp_path / "nodes.toml"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()


KILLED_AT = """
import json, os, signal, sys
from pathlib import Path
from testbed.inventory.load import load
from testbed.remote.collect import collect
from testbed.remote.deployment import DeploymentFolder
from testbed.remote.fleet import Fleet

left = int(sys.argv[2])

def hook(event, arguments):
    global left
    if event in ("os.mkdir", "os.rename", "subprocess.Popen"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

nodes = Path(sys.argv[1])
session, inventory = DeploymentFolder(nodes), load(nodes)
with Fleet(inventory.members) as fleet:
    sys.addaudithook(hook)
    collect(fleet, inventory, session.deployment(), session, nodes.parent / "runs")
    left = 10**9
"""
"""Collects, and is killed before it makes a folder, puts a file in place or starts a process."""


def files_of(folder: Path) -> dict[str, object]:
    """The content of each file; of nodes.json all but times, which depend on when clocks were measured."""
    found: dict[str, object] = {
        str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }
    (rows,) = (path for path in found if path.endswith("nodes.json"))
    timeless = ("clock_offsets", "started_s", "ended_s", "started_within_s", "ended_within_s")
    found[rows] = [
        {key: value for key, value in row.items() if key not in timeless}
        for row in json.loads((folder / rows).read_text())
    ]
    (timeline,) = (path for path in found if path.endswith("timeline.log"))
    found[timeline] = [line.split(" ", 2)[2] for line in (folder / timeline).read_text().splitlines()]
    return found


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_collection_killed_anywhere_and_repeated_ends_in_the_same_state(
    tmp_path: Path, deployment: Deployment
) -> None:
    lines = [f'[nodes.{name}]\nfolder = "{tmp_path / name}"' for name in ("gpu", "a")]
    (tmp_path / "nodes.toml").write_text(
        "\n".join(['server = "gpu"', *lines, 'radio_log = "{}"']).format(tmp_path / "link.jsonl")
    )
    write_finished_run(tmp_path)
    DeploymentFolder(tmp_path / "nodes.toml").write(deployment)

    def killed_after(changes: int) -> int:
        words = [sys.executable, "-c", KILLED_AT, str(tmp_path / "nodes.toml"), str(changes)]
        return subprocess.run(words, env={**os.environ, "PYTHONPATH": ROOT}, timeout=60).returncode

    assert killed_after(10**9) == 0
    clean = files_of(tmp_path / "runs")
    changes, inventory = 0, load(tmp_path / "nodes.toml")
    shutil.rmtree(tmp_path / "runs")
    while (code := killed_after(changes)) == -signal.SIGKILL:
        session = DeploymentFolder(tmp_path / "nodes.toml")
        with Fleet(inventory.members) as fleet:
            found = collect(fleet, inventory, session.deployment(), session, tmp_path / "runs")
        assert found.run == "1/toy-1"
        assert files_of(tmp_path / "runs") == clean, f"killed after {changes} changes"
        shutil.rmtree(tmp_path / "runs")
        changes += 1
    assert code == 0
    assert changes > 12


@pytest.mark.slow
def test_a_run_counts_as_collected_only_after_its_hook_has_fetched_what_it_fetches(
    tmp_path: Path, deployment: Deployment, start: Start
) -> None:
    nodes = tmp_path / "nodes.toml"
    head = f'server = "gpu"\n[nodes.gpu]\nfolder = "{tmp_path / "gpu"}"\n'
    head += f'[nodes.a]\nfolder = "{tmp_path / "a"}"\n[hooks]\n'
    write_finished_run(tmp_path)
    session = DeploymentFolder(nodes)
    session.write(deployment)
    nodes.write_text(head)
    session.keep_nodes(load(nodes).members)
    ends = (("kill -KILL $PPID", -signal.SIGKILL, []), ("rm $SPLITFL_RUN/config.json", 0, ["1/toy-1"]))
    for hook, code, collected in ends:  # without config.json there is no report
        nodes.write_text(f'{head}fetch_results = "{hook}"\n')
        words = ("testbed", "collect", "--nodes", nodes, "--out", tmp_path / "runs")
        command = splitfl(start, tmp_path, *words)
        assert command.code() == code, command.complained()
        assert session.collected() == collected
