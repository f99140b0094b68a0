"""Scenarios through a stand-in that behaves as `colosseumcli`, and a server that speaks its protocol."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError, PeerLost
from testbed.colosseum.colosseumcli import CLEAR_S, ColosseumCli, radio_map, srns_of
from testbed.colosseum.remote_command import Completed, on_node
from testbed.errors import CommandFailed
from testbed.inventory.load import read
from testbed.inventory.nodes import Node
from tests.command import Start, splitfl
from tests.testbed.colosseum.colosseum_server import ColosseumServer

STANDIN = Path(__file__).with_name("colosseumcli_standin.py")
INVENTORY: dict[str, Any] = {
    "nodes": {
        "gpu": {"role": "server"},
        "ue1": {"rf_node": 2},
        "base": {"rf_node": 1, "role": "none"},
    },
    "scenario": {"id": 1009},
}


class Made:
    """`colosseumcli` with the stand-in in its place, and the waits that it asked for."""

    def __init__(self, socket: Path) -> None:
        self.waited: list[float] = []
        self.cli = ColosseumCli(self._run, self.waited.append)
        self._socket = str(socket)

    def _run(self, argv: Sequence[str], limit_s: float, text: str) -> Completed:
        words = [sys.executable, str(STANDIN), self._socket]
        own = [*argv[:2], *words, *argv[3:]] if argv[0] == "timeout" else list(argv)
        done = subprocess.run(own, input=text, capture_output=True, text=True, timeout=limit_s, check=False)
        return Completed(code=done.returncode, output=done.stdout + done.stderr)


@pytest.fixture
def made(tmp_path: Path) -> Made:
    return Made(tmp_path / "clisocket")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ColosseumServer]:
    with ColosseumServer(tmp_path / "clisocket", polls_until_start=3) as running:
        yield running


def test_a_scenario_is_started_mapped_shown_and_stopped(made: Made, server: ColosseumServer) -> None:
    assert not made.cli.info().scenario_id
    assert made.cli.start(1009, {1: 12, 2: 40}, 30.0, is_cycled=True) == "08:53:20"
    (sent,) = (request for request in server.requests if request["command"] == "rf_scenario_start")
    assert sent == {
        "version": "3.0",
        "command": "rf_scenario_start",
        "scenario_id": 1009,
        "scenario_cycle": True,
        "srn_radio_mapping": radio_map({1: 12, 2: 40}, 10),
    }
    found = made.cli.info()
    assert (found.scenario_id, found.status, found.is_active, found.is_cycled) == (
        "1009",
        "ACTIVE",
        True,
        True,
    )
    rows = made.cli.radio_map()
    assert [row["SRN"] for row in rows] == [12, 40, *["None"] * 8]
    for again in ({}, {1: 12, 2: 40}):
        assert made.cli.start(1009, again, 30.0) == "08:53:20"
    with pytest.raises(ConfigError, match="scenario 1009 is ACTIVE with other SRNs: stop it first"):
        made.cli.start(1009, {1: 13, 2: 40}, 30.0)
    with pytest.raises(ConfigError, match="scenario 1009 is ACTIVE: stop it first"):
        made.cli.start(51005, {}, 30.0)
    assert [request["command"] for request in server.requests].count("rf_scenario_start") == 1
    made.cli.stop()
    assert made.waited == [CLEAR_S]
    assert not made.cli.info().is_active


def test_a_failure_with_exit_status_0_is_raised_with_its_sentence(
    made: Made, server: ColosseumServer
) -> None:
    server.refusals = {"rf_scenario_start": {"status": 400, "message": "no free MCHEM"}}
    with pytest.raises(CommandFailed, match=r"at the Resource Manager: no free MCHEM$"):
        made.cli.start(1009, {}, 30.0)
    server.refusals = {"rf_scenario_stop": {"status": 400, "message": "no"}}
    with pytest.raises(CommandFailed, match="the scenario was not stopped: no output"):
        made.cli.stop()
    server.refusals = {"rf_scenario_info": {"status": 400, "message": "no such reservation"}}
    with pytest.raises(CommandFailed, match="rf info: no such reservation"):
        made.cli.info()


@pytest.mark.slow
def test_a_scenario_that_fails_later_or_never_starts_is_raised(tmp_path: Path, made: Made) -> None:
    with ColosseumServer(tmp_path / "clisocket", polls_until_start=10**6) as server:
        with pytest.raises(CommandFailed, match=r"scenario 1009 was not started: .*no answer within 1 s"):
            made.cli.start(1009, {}, 1.0)
        with pytest.raises(CommandFailed, match="the scenario has no start time yet"):
            made.cli.info()
        server.info = {}
        server.answer = lambda request, plain=server.answer: (  # type: ignore[method-assign,misc]
            plain(request)
            if request["command"] != "rf_scenario_start"
            else server.info.update(scenario_status="ERROR", scenario_start_time=0) or {"status": 100}
        )
        with pytest.raises(CommandFailed, match="at the Scenario Conductor"):
            made.cli.start(1009, {}, 30.0)


def test_no_server_no_scenario_and_no_program_are_told_apart(made: Made) -> None:
    with pytest.raises(CommandFailed, match="it reaches no server: none is there in a batch job"):
        made.cli.info()
    elsewhere = ColosseumCli(on_node(Node(name="here")))
    with pytest.raises(CommandFailed, match="colosseumcli is not installed on the node"):
        elsewhere.info()


def test_a_scenario_or_node_that_is_not_there_is_refused(made: Made, server: ColosseumServer) -> None:
    with pytest.raises(ConfigError, match="Colosseum has no RF scenario 9;"):
        made.cli.start(9, {}, 30.0)
    with pytest.raises(ConfigError, match="RF scenario 1009 has nodes 1 to 10, got node 11"):
        made.cli.start(1009, {11: 1}, 30.0)
    with pytest.raises(CommandFailed, match="no scenario has been started yet"):
        made.cli.radio_map()


def test_a_radio_map_lists_every_node_and_each_srn_once() -> None:
    assert radio_map({2: 7}, 3) == {
        "Node 1": "None",
        "Node 2": {"SRN": 7, "RadioA": 1, "RadioB": 2},
        "Node 3": "None",
    }
    with pytest.raises(ConfigError, match=r"the SRN of node 1 must lie in 1\.\.128, got 129"):
        radio_map({1: 129}, 3)
    with pytest.raises(ConfigError, match="SRN 7 stands for more than one node"):
        radio_map({1: 7, 2: 7}, 3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["ue9=1"], "unknown node with an rf_node 'ue9'; did you mean 'ue1'"),
        (["gpu=1"], "unknown node with an rf_node 'gpu'"),
        (["ue1=one", "base=2"], "must be NODE=SRN with the SRN's number, got 'ue1=one'"),
        (["ue1=1"], "it lacks base"),
    ],
)
def test_an_srn_that_belongs_to_no_node_is_refused(settings: list[str], message: str) -> None:
    assert srns_of(read(INVENTORY), ["base=12", "ue1=40"]) == {1: 12, 2: 40}
    assert srns_of(read(INVENTORY), []) == {}
    with pytest.raises(ConfigError, match=message):
        srns_of(read(INVENTORY), settings)


def test_a_host_that_ssh_does_not_reach_is_named(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host srn\n HostName 127.0.0.1\n Port 1\n")
    node = Node(name="ue1", ssh="srn", ssh_config=str(tmp_path / "config"))
    with pytest.raises(PeerLost, match=r"^ue1: .*refused"):
        on_node(node)(["true"], 20.0, "")


@pytest.mark.slow
def test_the_commands_start_show_and_stop_and_fail_with_exit_status_1(
    start: Start, tmp_path: Path, server: ColosseumServer
) -> None:
    program = tmp_path / "bin" / "colosseumcli"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {sys.executable} {STANDIN} {server.path} "$@"\n')
    program.chmod(0o755)
    (tmp_path / "nodes.toml").write_text(
        'scenario = { id = 1009 }\n[nodes.base]\nrole = "server"\nrf_node = 1\n[nodes.ue1]\nrf_node = 2\n'
    )

    def said(*words: str) -> tuple[int, str]:
        path = f"{program.parent}:/usr/bin:/bin"
        own = ("--nodes", str(tmp_path / "nodes.toml"))
        done = splitfl(start, tmp_path, "testbed", "scenario", *words, *own, PATH=path)
        return done.code(), done.output.read_text() + done.complained()

    assert said("status") == (0, "no scenario has been started\n")
    assert said("start", "--srn", "base=12", "--srn", "ue1=40") == (0, "08:53:20\n")
    code, output = said("status", "--json")
    assert (code, json.loads(output)["status"]) == (0, "ACTIVE")
    assert said("map")[1].splitlines()[:3] == ["Node 1     SRN 12", "Node 2     SRN 40", "Node 3     unused"]
    assert said("start") == (0, "08:53:20\n")
    assert said("start", "51005") == (2, "Error: scenario 1009 is ACTIVE: stop it first\n")
    assert said("stop") == (0, "")
    server.refusals = {"rf_scenario_start": {"status": 400, "message": "no free MCHEM"}}
    code, output = said("start")
    assert code == 1
    assert output.endswith("at the Resource Manager: no free MCHEM\n")
