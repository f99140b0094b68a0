"""The doctor by itself: what follows from what was found, inventories, and an agent on this machine."""

import os
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from splitfl.core.errors import ConfigError, PeerLost
from splitfl.transport.base.reachability import ClientReach, Reach
from testbed.doctor.access import Agent
from testbed.doctor.advice import advise, names
from testbed.doctor.examine import examine
from testbed.doctor.machines import check_clock, check_lookup, check_machine, check_versions
from testbed.inventory import load as inventory
from testbed.inventory.nodes import Node
from tests.command import Start, splitfl
from tests.quick import quick

OPEN = ClientReach(client="a", port="open", up="open", down="open", side="open")
FACTS: dict[str, Any] = {
    "host": "a",
    "own_name": ["10.0.0.1"],
    "versions": {"python": "3.11.7", "torch": "2.13.0+cpu", "transformers": "5", "peft": "1", "splitfl": "1"},
    "disk_free_bytes": 10 << 30,
    "memory_free_bytes": 10 << 30,
    "is_root": True,
    "has_tun": True,
}


def works(
    *clients: ClientReach, same: bool = True, overlay: bool = True, broker: str = "unknown"
) -> list[str]:
    told = advise(Reach(clients=clients, server_to_broker=broker), same_torch=same, has_overlay=overlay)
    assert [one.transport for one in told] == names()
    return [one.transport for one in told if one.works]


def test_advice_follows_from_open_ports() -> None:
    one_port = ClientReach(client="a", port="open", up="silent", down="silent", side="open")
    assert works(OPEN) == ["rpc", "grpc", "overlay"]
    assert works(one_port) == ["grpc", "overlay"]
    assert works(one_port, overlay=False) == ["grpc"]
    assert works(ClientReach(client="a", port="open", up="rejected", down="open")) == ["grpc", "overlay"]
    assert works(ClientReach(client="a", port="silent", broker="open"), broker="open") == ["mqtt"]
    assert works(ClientReach(client="a", port="silent", broker="open"), broker="silent") == []
    assert works(ClientReach(client="a", port="refused")) == ["grpc", "overlay"]
    assert works(OPEN, ClientReach(client="b", port="silent", broker="open"), broker="open") == ["mixed"]
    assert works(OPEN, same=False) == []


def test_the_reason_names_the_client_and_the_path() -> None:
    shut = ClientReach(client="b", port="open", up="open", down="silent", side="open")
    rpc = advise(Reach(clients=[OPEN, shut]), same_torch=True, has_overlay=True)[0]
    assert rpc.why == (
        "it listens on random ports and dials back into every client, so it would hang: "
        "b: the server's way to random ports of it is silent"
    )


def test_missing_resources_of_a_machine_are_reported() -> None:
    assert {finding.state for finding in check_machine("a", FACTS)} == {"ok", "info"}
    poor = {**FACTS, "own_name": ["127.0.1.1"], "disk_free_bytes": 1 << 20, "has_tun": False}
    told = {finding.check: finding for finding in check_machine("a", poor)}
    assert "resolves to 127.0.1.1, which no other machine reaches" in told["own name"].detail
    assert told["disk"].state == "warning"
    assert told["rights"].detail == "root, no TUN; the overlay needs both"


def test_other_versions_are_named_with_both() -> None:
    assert [finding.state for finding in check_versions("b", FACTS, FACTS)] == ["ok"]
    other = {**FACTS, "versions": {**FACTS["versions"], "torch": "2.12.1", "peft": "2", "python": "3.11.9"}}
    told = [(finding.state, finding.detail) for finding in check_versions("b", other, FACTS)]
    assert told == [
        ("bad", "torch 2.12.1, but the server has 2.13.0"),
        ("warning", "peft 2, but the server has 1"),
    ]
    bare = {**FACTS, "versions": {**FACTS["versions"], "torch": None}}
    assert check_versions("b", bare, FACTS)[0].detail == "torch is not installed"


def test_clock_offsets_and_slow_lookups_are_reported() -> None:
    assert check_clock("a", 0.2, 0.01).state == "ok"
    assert check_clock("a", -90.0, 0.01).state == "warning"
    assert check_lookup("a", 0.01).state == "ok"
    assert check_lookup("a", 10.0).state == "warning"


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"nodes": {"a": {}, "b": {}}}, r"server must be one of the nodes \(a, b\), got ''"),
        ({"server": "a", "nodes": {"a": {}}}, "a server and at least one client"),
        ({"server": "a", "port": 0, "nodes": {"a": {}, "b": {}}}, r"port must lie in 1\.\.65535, got 0"),
        ({"server": "a", "port": "x", "nodes": {"a": {}, "b": {}}}, "port must be of type int, got 'x'"),
        ({"server": "a", "nodes": {"a": {}, "b": {"shh": "x"}}}, r"unknown 'shh'; did you mean 'ssh'"),
        ({"server": "a", "nodes": {"a": {}, "b": {"ssh": "-oProxyCommand=x"}}}, "ssh must be USER@HOST"),
        ({"server": "a", "nodes": {"a": {}, "b": {"ssh": "x", "lab": "y"}}}, "has ssh and lab: give one"),
    ],
)
def test_a_bad_inventory_is_refused(table: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        inventory.read(table)


def test_an_agent_on_this_machine_answers_and_a_node_without_python_is_reported() -> None:
    with Agent(Node(name="here", address="127.0.0.1")) as agent:
        port = agent.ask(5.0, do="listen", port=0)["port"]
        got = agent.ask(10.0, do="measure", host="127.0.0.1", port=port, seconds=0.05)
        assert got["large_packets_pass"]
        assert got["round_trip_s"] > 0
        assert got["up_bps"] > 0
        assert got["down_bps"] > 0
        with socket.create_server(("127.0.0.1", 0)) as taken:
            said = agent.ask(5.0, do="listen", port=taken.getsockname()[1])
        assert said == {"port": 0, "reason": "Address already in use"}
    with pytest.raises(PeerLost, match=r"no agent on here: /no/python: No such file"):
        Agent(Node(name="here", address="127.0.0.1", python="/no/python"))
    with pytest.raises(PeerLost, match="no agent on here: it exited without output"):
        Agent(Node(name="here", address="127.0.0.1", python="/bin/true"))


def test_an_agent_goes_by_ssh_with_a_command_that_survives_a_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `ssh` here hands its command to a shell as sshd does, without going anywhere."""
    ssh = tmp_path / "ssh"
    ssh.write_text(
        '#!/bin/sh\nwhile [ "$1" != -- ]; do echo "$1" >> "$0.words"; shift; done\nshift\nsh -c "$*"\n'
    )
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with Agent(Node(name="away", address="away", ssh="me@away", python=sys.executable)) as agent:
        assert agent.ask(10.0, do="facts")["is_root"] == (os.geteuid() == 0)
    words = (tmp_path / "ssh.words").read_text().split()
    assert words[-1] == "me@away"
    assert "BatchMode=yes" in words


def script(path: Path, *lines: str) -> str:
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize(
    "banner",
    quick(["echo Welcome to the lab; echo", "printf 'no end of line: '", "echo '{}'"], "echo '{}'"),
)
def test_a_banner_that_a_login_prints_is_passed_over(banner: str, tmp_path: Path) -> None:
    python = script(tmp_path / "python", banner, f'exec {sys.executable} "$@"')
    with Agent(Node(name="c1", address="127.0.0.1", python=python)) as agent:
        assert agent.ask(5.0, do="facts")["versions"]["splitfl"]


def test_a_login_that_prints_and_exits_is_reported_with_its_output(tmp_path: Path) -> None:
    python = script(tmp_path / "python", "echo 'This account is not available.'")
    with pytest.raises(
        PeerLost, match=r"it exited without output; another program printed 'This account is not"
    ):
        Agent(Node(name="c1", address="127.0.0.1", python=python))


def test_a_python_that_is_too_old_is_reported_with_the_needed_version(tmp_path: Path) -> None:
    older = "import sys; sys.version_info = (3, 6, 9); exec(sys.argv[3])"
    python = script(tmp_path / "python", f'exec {sys.executable} -c "{older}" "$@"')
    with pytest.raises(PeerLost, match=r"c1: Python 3\.6 is too old, splitfl needs 3\.11 or newer"):
        Agent(Node(name="c1", address="127.0.0.1", python=python))


def test_two_nodes_on_one_machine_may_use_everything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    examined = examine(
        inventory.read(
            {
                "server": "a",
                "port": port,
                "nodes": {name: {"address": "127.0.0.1"} for name in ("a", "b")},
            }
        )
    )
    assert examined.use == "rpc"
    assert {finding.check for finding in examined.findings} >= {
        "versions",
        "clock",
        "port",
        "MTU",
        "bandwidth",
    }


def test_a_server_listens_at_its_address_or_else_where_a_peer_reaches_it() -> None:
    with Agent(Node(name="here", address="127.0.0.1")) as agent:
        for address, listens in (
            ("127.0.0.3", "127.0.0.3"),
            ("192.0.2.1", "127.0.0.1"),
            ("localhost", "127.0.0.1"),
        ):
            asked = agent.ask(5.0, do="bind", address=address, peer="127.0.0.1")
            assert asked == {"address": listens}


def test_a_client_takes_the_first_of_its_routes_to_the_server_that_is_open() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    nodes: dict[str, Any] = {name: {"address": "127.0.0.1"} for name in ("a", "b")}
    nodes["b"]["server_addresses"] = ["127.0.0.2", f"127.0.0.1:{port}", "127.0.0.1"]
    examined = examine(inventory.read({"server": "a", "port": port, "nodes": nodes}))
    assert [(pair.route, pair.works[1]) for pair in examined.pairs] == [(f"127.0.0.1:{port}", "grpc")]
    paths = [one.detail for one in examined.findings if one.check == "port" and "b -> 127" in one.detail]
    assert paths[0].startswith(f"b -> 127.0.0.2:{port}: refused although a program listens")
    assert paths[1] == f"b -> 127.0.0.1:{port}: open"


def test_with_an_unreachable_node_no_transport_works() -> None:
    table = {"address": "127.0.0.1"}
    nodes = {"a": table, "b": {**table, "python": "/no/python"}}
    examined = examine(inventory.read({"server": "a", "nodes": nodes}))
    assert examined.use == ""
    assert [finding.detail for finding in examined.findings if finding.check == "access"] == [
        "no agent on b: /no/python: No such file or directory"
    ]
    assert {advice.why for advice in examined.advice} == {"no agent could be started on b: see access above"}


def test_the_exit_code_reflects_the_result(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        good = splitfl(start, tmp_path, "doctor", "--server", address, "--json")
        assert good.code() == 0, good.complained()
        told = good.said()
        assert told["use"] == "grpc"
        bad = splitfl(start, tmp_path, "doctor", "--server", address, "--transport", "rpc")
        assert bad.code() == 1
    wrong = splitfl(start, tmp_path, "doctor", "--inventory", tmp_path / "none.toml")
    assert wrong.code() == 2
    assert "none.toml" in wrong.complained()
