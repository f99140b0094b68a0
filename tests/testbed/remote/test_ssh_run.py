"""Runs over real ssh in a lab: deploy, run, collect, down, killed, rebooted and refused."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from testbed.remote.wheel import wheel_of_this_code
from tests.splitfl import toy
from tests.testbed.remote.ssh_site import NODES, SshSite, keygen, needs_mosquitto, needs_sshd
from tests.testbed.waiting import is_learning, until

pytestmark = [*needs_sshd, pytest.mark.timeout(900)]

AHEAD_S = 5.0
"""The clock of srn3 is ahead by that."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshSite]:
    with ExitStack() as stack:
        folder = tmp_path_factory.mktemp("site")
        toy.model(folder / "model")
        toy.data(folder / "data.tsv")
        yield SshSite(stack, folder)


def write_preset(site: SshSite, **tables: Any) -> Path:
    """The toy experiment with three clients, whose server waits long enough on a loaded machine."""
    three = {"clients": 3, **tables.pop("federation", {})}
    transport = {"timeout_s": 20.0, "join_timeout_s": 200.0, **tables.pop("transport", {})}
    path = site.folder / "toy.json"
    path.write_text(json.dumps(toy.table(site.folder, federation=three, transport=transport, **tables)))
    return path


def in_one_process(preset: Path | str, out: Path, *settings: str) -> dict[str, Any]:
    """What the same run measures in one process."""
    words = ["-P", "-m", "experiments", "run", preset, "--out", out, "--json", *settings]
    done = subprocess.run([sys.executable, *words], capture_output=True, timeout=400, check=True)
    return learnt(json.loads(done.stdout)["final"])


def learnt(final: dict[str, Any]) -> dict[str, Any]:
    """What was measured last, without how long it took."""
    return {name: value for name, value in final.items() if name != "wall_s"}


def collected(site: SshSite, out: str) -> Path:
    """The one run folder that was collected."""
    (folder,) = (site.folder / out).iterdir()
    return folder


def check_delays(folder: Path) -> None:
    """Each delay lies within its error bar of the true one, which the records of one kernel give."""
    delays = json.loads((folder / "delays.json").read_text())
    assert [(row["client"], row["contradictory"]) for row in delays] == [(0, 0), (1, 0), (2, 0)]
    messages = lines_of(folder / "messages.jsonl")
    arrived_s = {(row["client"], row["digest"]): row for row in lines_of(folder / "nodes/gpu/messages.jsonl")}
    for client, node in enumerate(NODES[1:]):
        own = [row for row in messages if row["client"] == client]
        sent = lines_of(folder / "nodes" / node / "messages.jsonl")
        assert len(own) == len(sent) == delays[client]["messages"]
        for merged, row in zip(own, sent, strict=True):
            sent_s = row["sent_s"] - (AHEAD_S if node == "srn3" else 0.0)
            true_s = arrived_s[client, row["digest"]]["arrived_s"] - sent_s
            assert abs(merged["arrived_s"] - merged["sent_s"] - true_s) <= merged["within_s"] + 1e-6


def lines_of(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of JSON."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_deploy_run_collect_and_down_learn_what_one_process_learns(site: SshSite) -> None:
    preset = write_preset(site)
    site.set_clock_ahead("srn3", AHEAD_S)
    code, _, errors = site.splitfl("deploy", preset)
    assert code == 0, errors
    assert "transport grpc: every client reaches the server's one port" in errors
    code, told, errors = site.splitfl("run")
    assert code == 0, errors
    assert told.count("done") >= 4
    code, _, errors = site.splitfl("collect", "--out", "runs")
    assert code == 0, errors
    folder = collected(site, "runs")
    summary = json.loads((folder / "summary.json").read_text())
    assert learnt(summary["final"]) == in_one_process(preset, site.folder / "expected")
    rows = json.loads((folder / "nodes.json").read_text())
    assert [row["node"] for row in rows] == list(NODES)
    assert all(row["versions"]["torch"] for row in rows)
    # One kernel: the true offsets are known, and must lie within the error bars.
    true_s = {name: AHEAD_S if name == "srn3" else 0.0 for name in NODES}
    for row in rows:
        for one in row["clock_offsets"]:
            assert abs(one["ahead_s"] - true_s[row["node"]]) <= one["within_s"]
        assert row["network"]["interfaces"]
    check_delays(folder)
    assert {path.name for path in (folder / "nodes").iterdir()} == set(NODES)
    assert "client 2: done" in (folder / "timeline.log").read_text()
    for name in ("config.json", "summary.json", "adapter/adapter_config.json"):
        assert f"{site.folder}/on/" not in (folder / name).read_text()
    assert "clock ahead by" in (folder / "report.html").read_text()
    assert "One round on the nodes, in real time" in (folder / "report.html").read_text()
    assert "client 2: done" in (folder / "nodes" / "srn3" / "report.html").read_text()
    code, _, errors = site.splitfl("down")
    assert code == 0, errors
    assert list((site.folder / "on").iterdir()) == []
    assert not (site.folder / ".nodes.splitfl").exists()


@pytest.mark.long
def test_the_demo_learns_on_the_nodes_what_it_learns_in_one_process(site: SshSite) -> None:
    rounds = ("--set", "federation.rounds=1")
    for words in (("deploy", "demo", *rounds), ("run",), ("collect", "--out", "demo")):
        code, _, errors = site.splitfl(*words, timeout_s=600)
        assert code == 0, errors
    final = json.loads((collected(site, "demo") / "summary.json").read_text())["final"]
    alone = in_one_process("demo", site.folder / "demo-alone", *rounds, "--set", "transport.name=inproc")
    assert learnt(final) == alone
    assert site.splitfl("down")[0] == 0


KILLED_AT = """
import os, signal, sys
from pathlib import Path
from testbed.inventory.load import load
from testbed.remote.deploy import deploy
from testbed.remote.deployment import Deployment, DeploymentFolder
from testbed.remote.fleet import Fleet

nodes, last = Path("nodes.toml"), sys.argv[1]
deployment = Deployment(
    name="toy", settings={"task": {"data": ""}}, transport="grpc", address="10.100.13.153", port=50051,
    host="10.100.13.153", listen_port=50051, wheel=sys.argv[2], model=str(Path("model").absolute()),
    data=str(Path("data.tsv").absolute()), version="1234",
)

def say(node, what):
    print(what, flush=True)
    if what == last:
        os.kill(os.getpid(), signal.SIGKILL)

with Fleet(load(nodes).members) as fleet:
    fleet.need_all()
    deploy(fleet, load(nodes), deployment, DeploymentFolder(nodes), say)
"""


def test_a_deployment_killed_after_any_step_and_repeated_ends_in_the_same_state(site: SshSite) -> None:
    wheel = wheel_of_this_code(site.folder / "wheel")

    def deploy(last: str) -> tuple[int, list[str]]:
        process = site.python("-c", KILLED_AT, last, wheel, output="killed")
        return process.wait(120), (site.folder / "killed.out").read_text().splitlines()

    code, said = deploy("")
    assert code == 0, (site.folder / "killed.err").read_text()
    clean = site.files()
    assert site.splitfl("down")[0] == 0
    assert site.files() == {}
    steps = list(dict.fromkeys(said))
    assert steps == ["folder", "wheel and settings", "secrets", "model", "data", "packages", "deployed 1234"]
    for step in steps:
        assert deploy(step)[0] == -signal.SIGKILL
    assert deploy("")[0] == 0
    assert site.files() == clean
    assert site.splitfl("down")[0] == 0


@pytest.mark.parametrize("node", ["srn2", pytest.param("gpu", marks=pytest.mark.long)])
def test_a_killed_command_watches_on_and_a_rebooted_node_returns_with_the_same_result(
    site: SshSite, node: str
) -> None:
    tables: dict[str, Any] = {"federation": {"rounds": 40}, "transport": {"timeout_s": 5.0}}
    tables["fault_tolerance"] = {"on_loss": "rollback", "reconnect_timeout_s": 200.0}
    preset = write_preset(site, **tables)
    code, _, errors = site.splitfl("deploy", preset)
    assert code == 0, errors
    killed = site.python("-m", "experiments", "testbed", "run", output="killed")
    until(lambda: "srn1: client 0 starts" in (site.folder / "killed.err").read_text(), 200)
    killed.kill()
    running = site.python("-m", "experiments", "testbed", "run", output="run")
    until(lambda: is_learning(site.folder / "on" / "gpu"), 200)
    site.reboot(node)
    assert running.wait(400) == 0, (site.folder / "run.err").read_text()
    code, _, errors = site.splitfl("collect", "--out", f"rebooted-{node}")
    assert code == 0, errors
    folder = collected(site, f"rebooted-{node}")
    final = json.loads((folder / "summary.json").read_text())["final"]
    assert learnt(final) == in_one_process(preset, site.folder / f"undisturbed-{node}")
    starts = {row["node"]: row["starts"] for row in json.loads((folder / "nodes.json").read_text())}
    assert starts == {**dict.fromkeys(NODES, 1), node: 2}
    assert site.splitfl("down")[0] == 0


@pytest.mark.long
@pytest.mark.parametrize("transport", ["overlay", pytest.param("mqtt", marks=needs_mosquitto)])
def test_other_transports_through_the_firewall_learn_what_one_process_learns(
    site: SshSite, transport: str
) -> None:
    if transport == "mqtt":
        site.write_inventory(f'[broker]\naddress = "{site.start_broker()}"')
    preset = write_preset(site)
    code, _, errors = site.splitfl("deploy", preset, "--transport", transport)
    assert code == 0, errors
    code, _, errors = site.splitfl("run")
    assert code == 0, errors
    code, _, errors = site.splitfl("collect", "--out", transport)
    assert code == 0, errors
    final = json.loads((collected(site, transport) / "summary.json").read_text())["final"]
    assert learnt(final) == in_one_process(preset, site.folder / f"without-{transport}")
    assert site.splitfl("down")[0] == 0
    site.write_inventory()


def test_nodes_that_cannot_be_reached_are_named_within_ten_seconds(site: SshSite) -> None:
    known, other = (site.folder / "known_hosts").read_text(), site.folder / "other.key"
    keygen(other)
    changed = [line for line in known.splitlines() if "172.18.77.103" not in line]
    key = other.with_suffix(".key.pub").read_text()
    (site.folder / "known_hosts").write_text("\n".join([*changed, f"[172.18.77.103]:22022 {key}"]))
    site.write_inventory(srn1="no-such-name", srn2="silent", gpu="locked")
    preset = write_preset(site)
    began_s = time.monotonic()
    code, told, errors = site.splitfl("deploy", preset)
    took_s = time.monotonic() - began_s
    site.write_inventory()
    (site.folder / "known_hosts").write_text(known)
    assert code == 1
    assert told == ""
    assert "4 of 4 nodes: cannot be reached" in errors
    lines = {line.split(":")[0].strip(): line for line in errors.splitlines() if line.startswith("  ")}
    assert "Could not resolve hostname no-such-name" in lines["srn1"]
    assert "no connection to silent within 9.5 s" in lines["srn2"] or "timed out" in lines["srn2"]
    assert "the host key of srn3 has changed" in lines["srn3"]
    refused = "locked refuses your key, and would ask for a password: nobody-here@172.18.77.1"
    assert refused in lines["gpu"] or "the gateway of locked closed the connection" in lines["gpu"]
    assert not (site.folder / ".nodes.splitfl").exists()
    assert list((site.folder / "on").iterdir()) == []
    assert took_s < 10 + 10  # beside ssh: the interpreter and its imports on a loaded machine
