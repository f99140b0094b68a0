"""A batch job played in namespaces: late nodes, failing runs, loops, and the losses of one process."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channel.core.link import Link
from channel.links.fixed import Direction, FixedLink
from channel.scenario.load import Scenario
from testbed.colosseum.batch_file import BatchJob
from testbed.colosseum.batch_plan import BatchPlan
from testbed.colosseum.conductor import Rehearsal
from testbed.colosseum.radio_conf import RadioConf
from testbed.colosseum.rehearse import rehearse
from testbed.colosseum.rf_scenarios import emulated
from testbed.colosseum.rules import Rules
from tests.command import Start, splitfl
from tests.splitfl import toy
from tests.testbed.colosseum.test_batch_file import batch

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
AIR = FixedLink(seed=0, up=Direction(), down=Direction())
RULES = Rules(ready_s=3.0, cleanup_s=4.0)
LISTEN = """python -c 'import socket; socket.create_server(("172.16.0.1", 8000)).accept()'"""
CONNECT = """python -c 'import socket; socket.create_connection(("172.16.0.1", 8000), 5)'"""
SERVER = RadioConf(node="base", role="server", address="172.16.0.1", run=LISTEN, warm="true", stop_s=1)
CLIENT = RadioConf(
    node="ue", role="client", run=f"until {CONNECT}; do sleep 0.2; done", warm="true", stop_s=1
)


def written(folder: Path, server: RadioConf, client: RadioConf, **changes: Any) -> BatchJob:
    job = batch(**changes)
    confs = {node.config: conf for node, conf in zip(job.nodes, (server, client), strict=True)}
    BatchPlan(batch=job, confs=confs).write(folder)
    return job


def played(
    folder: Path,
    server: RadioConf = SERVER,
    client: RadioConf = CLIENT,
    rules: Rules = RULES,
    air: Link | Scenario = AIR,
    **changes: Any,
) -> Rehearsal:
    written(folder, server, client, **changes)
    return rehearse(folder, "demo", air, folder / "logs", rules=rules)[0]


def test_a_job_whose_nodes_reach_each_other_has_no_problems(tmp_path: Path) -> None:
    found = played(tmp_path, replace(SERVER, loops=2), replace(CLIENT, loops=2), loops=2)
    assert found.problems == ()
    assert [node.exit_statuses for node in found.nodes] == [(0, 0), (0, 0)]
    assert all(node.ready_s is not None for node in found.nodes)
    assert (tmp_path / "logs/rehearsal--srn-2/loop-2/exit_status").read_text() == "0\n"


def test_the_nodes_reach_each_other_over_what_stands_for_their_rf_scenario(tmp_path: Path) -> None:
    assert played(tmp_path, air=emulated(51030, clients=1)).problems == ()


def test_a_node_that_is_late_is_started_as_soon_as_it_is_ready(tmp_path: Path) -> None:
    found = played(tmp_path, client=replace(CLIENT, warm="sleep 6"))
    assert [node.exit_statuses for node in found.nodes] == [(0,), (0,)]
    (problem,) = found.problems
    assert "ue was BOOTING instead of READY 3 s after boot (loading the model)" in problem


def test_everything_that_goes_wrong_is_named(tmp_path: Path) -> None:
    client = replace(CLIENT, warm="sleep 600", stop_s=60)
    found = played(tmp_path, replace(SERVER, run="exit 3"), client, duration_s=2)
    assert [node.ready_s is None for node in found.nodes] == [False, True]
    assert [node.exit_statuses for node in found.nodes] == [(3,), (None,)]
    told = "\n".join(found.problems)
    assert "ue was BOOTING instead of READY" in told
    assert "base: the run of loop 1 ended with exit status 3" in told
    assert "ue: the run of loop 1 was still running at stop.sh" in told
    assert "ue: /logs lacks loop-1/run.log, loop-1/exit_status, loop-1/radio.conf" in told


def test_scripts_beyond_their_limit_are_killed_and_named(tmp_path: Path) -> None:
    found = played(tmp_path, rules=replace(RULES, script_s=1e-6), duration_s=2)
    told = "\n".join(found.problems)
    assert "base was ERROR instead of READY 3 s after boot (status.sh printed '')" in told
    assert "ue: start.sh did not return within 1e-06 s" in told


def test_a_container_is_removed_although_its_run_still_stops(tmp_path: Path) -> None:
    deaf = "trap '' TERM; while :; do sleep 1; done"
    client = replace(CLIENT, run="true")
    found = played(tmp_path, replace(SERVER, run=deaf, stop_s=60), client, duration_s=2)
    told = "\n".join(found.problems)
    assert "base was STOPPING instead of FINISHED 4 s after stop.sh of loop 1" in told
    assert "base: /logs lacks loop-1/exit_status, loop-1/radio.conf" in told


def test_a_rehearsed_run_has_the_losses_of_one_process(start: Start, tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv")
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(toy.table(tmp_path)))
    alone = splitfl(start, tmp_path, "run", path, "--out", tmp_path / "alone", "--json")
    (tmp_path / "nodes.toml").write_text(
        'port = 29500\nscenario = { id = 1009, traffic = 10090 }\n[nodes.base]\nrole = "server"\n'
        'address = "10.78.0.1"\nrf_node = 1\n[nodes.ue1]\nrf_node = 2\n[nodes.ue2]\nrf_node = 3\n'
    )
    words = ["--set", "transport.name=grpc", "--image", "splitfl", "--duration", "120", "--rate", "20e6"]
    job = splitfl(
        start, tmp_path, "testbed", "batch", path, *words, "--nodes", tmp_path / "nodes.toml",
        "--out", tmp_path / "job", "--rehearse", "--json",
    )  # fmt: skip
    assert alone.code(240) == 0, alone.complained()
    assert job.code(240) == 0, job.complained() + job.output.read_text()
    merged = splitfl(
        start, tmp_path, "testbed", "batch-results", tmp_path / "job/rehearsal", "--out", tmp_path / "merged"
    )
    assert merged.code() == 0, merged.complained()
    final = json.loads((tmp_path / "merged/loop-1/summary.json").read_text())["final"]
    expected = alone.said()["final"]
    assert {**final, "wall_s": None} == {**expected, "wall_s": None}
    rows = json.loads((tmp_path / "merged/loop-1/nodes.json").read_text())
    assert all(row["versions"]["torch"] for row in rows)
