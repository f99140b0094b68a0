"""The merged folder: what it takes from each node, what it restores, and on whose clock its times are."""

import json
import sys
import time
from pathlib import Path

import pytest

from splitfl.core.errors import ConfigError
from testbed.clocks import ClockOffset, NodeClock
from testbed.inventory.load import read
from testbed.inventory.nodes import Inventory
from testbed.remote import node_agent
from testbed.remote.collect import collect
from testbed.remote.deployment import Deployment, DeploymentFolder
from testbed.remote.fleet import Fleet


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
        folder, missing = collect(fleet, inventory, deployment, session, tmp_path / "runs")

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
    assert session.collected() == []


def test_nothing_to_collect_is_said_with_the_reasons(
    tmp_path: Path, inventory: Inventory, deployment: Deployment
) -> None:
    with (
        Fleet(inventory.members) as fleet,
        pytest.raises(ConfigError, match=r"nothing to collect.*b: no agent"),
    ):
        collect(fleet, inventory, deployment, DeploymentFolder(tmp_path / "nodes.toml"), tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
