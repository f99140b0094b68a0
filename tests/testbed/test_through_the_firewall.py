"""Whole runs in a lab: direct RPC fails and the doctor said why; one-port gRPC, MQTT and the overlay pass."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from splitfl.transport.security.certificates import make_certificates
from testbed.lab import control, state
from testbed.lab.build import Lab
from testbed.lab.check import firewall_check
from testbed.lab.plan import find
from tests.command import Start, splitfl
from tests.splitfl import toy
from tests.testbed.waiting import until

pytestmark = [
    pytest.mark.slow,
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]
ROOT = str(Path(__file__).parents[2])
GPU = "10.100.13.153"
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
INVENTORY = """
server = "gpu"
port = 50051
[nodes.gpu]
lab = "{lab}"
[nodes.srn2]
lab = "{lab}"
[nodes.srn3]
lab = "{lab}"
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model")
    toy.data(folder / "data.tsv")
    make_certificates(folder / "secrets", 2, [GPU], days=1)
    return folder


class Site:
    """A lab in which programs run whose words go to files."""

    def __init__(self, stack: ExitStack, plan: str, place: Path, folder: Path) -> None:
        self.lab = stack.enter_context(Lab(find(plan)))
        self.place, self.folder, self._stack = place, folder, stack

    def start(self, node: str, output: str, words: Sequence[str | Path]) -> "subprocess.Popen[bytes]":
        files = [
            self._stack.enter_context((self.folder / f"{output}.{end}").open("wb")) for end in ("out", "err")
        ]
        process: subprocess.Popen[bytes] = self.lab.nodes[node].popen(
            words,
            stdout=files[0],
            stderr=files[1],
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": ROOT},
        )
        self._stack.callback(_end, process)
        return process

    def splitfl(self, node: str, output: str, *words: str | Path) -> "subprocess.Popen[bytes]":
        return self.start(node, output, [sys.executable, "-P", "-m", "experiments", *words])

    def serve(self, host: str, port: int, **transport: Any) -> "subprocess.Popen[bytes]":
        path = self.folder / "toy.json"
        patience = {"timeout_s": 60.0, "join_timeout_s": 120.0}
        path.write_text(json.dumps(toy.table(self.place, transport={**patience, **transport})))
        words: list[str | Path] = [
            "--host",
            host,
            "--port",
            str(port),
            "--out",
            self.folder / "runs",
            "--json",
        ]
        return self.splitfl("gpu", "serve", "serve", path, *words)

    def finish(self, server: "subprocess.Popen[bytes]", address: str, *words: str | Path) -> dict[str, Any]:
        """Starts both clients, waits for everybody, and gives what was learnt."""
        clients = [
            self.splitfl(node, node, "join", address, "--client", str(client), "--timeout", "60", *words)
            for client, node in enumerate(("srn2", "srn3"))
        ]
        for name, process in zip(("serve", "srn2", "srn3"), (server, *clients), strict=True):
            assert process.wait(150) == 0, (self.folder / f"{name}.err").read_text()
        return _learnt((self.folder / "serve.out").read_bytes())


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@pytest.fixture(scope="module")
def expected(place: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the same run measures in one process."""
    folder = tmp_path_factory.mktemp("expected")
    (folder / "toy.json").write_text(json.dumps(toy.table(place)))
    command = [
        sys.executable,
        "-P",
        "-m",
        "experiments",
        "run",
        folder / "toy.json",
        "--out",
        folder,
        "--json",
    ]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, timeout=120, check=True
    )
    return _learnt(done.stdout)


def test_one_port_grpc_passes(
    stack: ExitStack, place: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    site = Site(stack, "colosseum-firewall", place, tmp_path)
    server = site.serve(GPU, 50051, name="grpc", secrets=str(place / "secrets"))
    final = site.finish(server, f"{GPU}:50051", "--transport", "grpc", "--secrets", place / "secrets")
    assert final == expected


@pytest.mark.skipif(shutil.which("nft") is None, reason="the program nft is not installed")
def test_one_port_grpc_passes_where_addresses_are_translated(
    stack: ExitStack, place: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    """The clients share the gateway's address, and from the server no way leads to their own."""
    site = Site(stack, "open", place, tmp_path)
    (tmp_path / "nat.nft").write_text(
        "table ip nat {\n chain out {\n  type nat hook postrouting priority 100;\n"
        "  oifname gpu0 masquerade\n }\n}\n"
    )
    site.lab.nodes["gateway"].run(["nft", "-f", str(tmp_path / "nat.nft")], 10)
    site.lab.nodes["gpu"].run(["ip", "route", "delete", "default"], 10)
    server = site.serve(GPU, 50051, name="grpc", secrets=str(place / "secrets"))
    final = site.finish(server, f"{GPU}:50051", "--transport", "grpc", "--secrets", place / "secrets")
    assert final == expected


def test_rpc_over_the_overlay_passes(
    stack: ExitStack, place: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    site = Site(stack, "colosseum-firewall", place, tmp_path)
    own = ("--secrets", place / "secrets")
    site.splitfl("gpu", "hub", "testbed", "overlay", "hub", "--listen", f"{GPU}:50051", *own)
    for client, node in enumerate(("srn2", "srn3")):
        name = ("--name", f"client-{client}")
        site.splitfl(node, f"overlay-{node}", "testbed", "overlay", "join", f"{GPU}:50051", *own, *name)
        until(lambda node=node: "10.99.0." in site.lab.nodes[node].run(["ip", "-br", "address"], 10))
    server = site.serve("10.99.0.1", 29500, name="rpc")
    assert site.finish(server, "10.99.0.1:29500") == expected


@pytest.mark.skipif(MOSQUITTO is None, reason="the broker mosquitto is not installed")
def test_mqtt_passes_where_only_a_broker_is_reachable(
    stack: ExitStack, place: Path, tmp_path: Path, expected: dict[str, Any]
) -> None:
    site = Site(stack, "broker-only", place, tmp_path)
    (tmp_path / "broker.conf").write_text("listener 1883 10.100.14.10\nallow_anonymous true\nuser root\n")
    assert MOSQUITTO is not None
    site.start("broker", "broker", [MOSQUITTO, "-c", tmp_path / "broker.conf"])
    until(lambda: "1883" in site.lab.nodes["broker"].run(["ss", "-ltn"], 10))
    server = site.serve("10.100.14.10", 1883, name="mqtt", topic="toy")
    assert site.finish(server, "10.100.14.10:1883/toy", "--transport", "mqtt") == expected


def test_the_doctor_predicts_which_transports_fail(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    control.up("colosseum-firewall", "asked")
    try:
        (tmp_path / "nodes.toml").write_text(INVENTORY.format(lab="asked"))
        asked = splitfl(start, tmp_path, "doctor", "--inventory", tmp_path / "nodes.toml", "--json")
        assert asked.code() == 0, asked.complained()
        told = asked.said()
        rpc = splitfl(start, tmp_path, "doctor", "--inventory", tmp_path / "nodes.toml", "--transport", "rpc")
        assert rpc.code() == 1
    finally:
        control.down("asked")
    assert state.names() == []
    works = {advice["transport"]: advice["works"] for advice in told["transports"]}
    assert works == {"rpc": False, "grpc": True, "mqtt": False, "mixed": False, "overlay": True}
    assert told["use"] == "grpc"
    why = next(advice["why"] for advice in told["transports"] if advice["transport"] == "rpc")
    assert "srn3: the server's way to random ports of it is silent" in why
    interfaces = [found["detail"] for found in told["findings"] if found["check"] == "interface"]
    assert [detail.split()[:2] for detail in interfaces] == [["can0", f"(172.18.77.{n})"] for n in (102, 103)]


def test_through_one_port_direct_rpc_fails_and_the_overlay_and_grpc_pass() -> None:
    told = firewall_check()
    assert told["is_right"], told
    assert "was silent for" in told["direct"]["error"]


def _learnt(summary: bytes) -> dict[str, Any]:
    """What was measured last, to the last bit; only how long it took may differ."""
    final: dict[str, Any] = json.loads(summary)["final"]
    return {name: value for name, value in final.items() if name != "wall_s"}


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    process.wait()
