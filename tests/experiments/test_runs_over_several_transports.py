"""A run whose clients use different transports at once, killed and resumed: the bits of one process."""

import json
import os
import signal
from functools import partial
from pathlib import Path

import pytest

from tests.command import Command, Start, splitfl
from tests.experiments.test_runs_that_lose_somebody import (
    await_round,
    rounds_done,
    run_folder,
    settings,
    story,
    undisturbed,
)
from tests.splitfl import toy
from tests.splitfl.transport.broker_process import BrokerProcess
from tests.testbed.waiting import until

pytestmark = pytest.mark.slow

place = toy.place(is_base=True, rows=60)
THREE = {"clients": 3, "rounds": 30, "local_steps": 2}
BACK = {"fault_tolerance": {"on_loss": "rollback", "reconnect_timeout_s": 200.0}, "federation": THREE}


def mixed_settings(place: Path, folder: Path, broker: BrokerProcess) -> Path:
    path = settings(place, folder, "inproc", **BACK)
    table = json.loads(path.read_text())
    table["transport"] |= {
        "name": "mixed",
        "clients": ["rpc", "grpc", "mqtt"],
        "broker": f"127.0.0.1:{broker.port}",
        "timeout_s": 5.0,
    }
    path.write_text(json.dumps(table))
    return path


def rolled_back(server: Command, times: int) -> bool:
    return server.complained().count("rolling back") >= times


@pytest.mark.timeout(600)
def test_clients_of_three_transports_and_their_server_are_killed_and_the_run_keeps_its_bits(
    start: Start, place: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    broker = BrokerProcess(tmp_path)
    try:
        words = ("serve", mixed_settings(place, folder, broker), "--host", "127.0.0.1")
        server = splitfl(start, folder, *words, "--out", folder / "runs")
        (where,) = until(lambda: list(folder.glob("runs/*/server.json")), 90.0)
        at = json.loads(where.read_text())
        addresses = [f"127.0.0.1:{at[key]}" for key in ("rpc_port", "grpc_port")]
        addresses.append(f"127.0.0.1:{broker.port}/{at['topic']}")

        def joined(client: int) -> Command:
            name, address = ("rpc", "grpc", "mqtt")[client], addresses[client]
            own = ("--transport", name, "--client", str(client), "--state", tmp_path / f"client-{client}")
            return splitfl(start, tmp_path, "join", address, *own)

        clients = [joined(client) for client in range(3)]
        for client in range(3):
            await_round(folder, rounds_done(folder) + 2, server)
            clients[client].process.kill()
            clients[client] = joined(client)
            until(partial(rolled_back, server, client + 1), 60.0)
        await_round(folder, rounds_done(folder) + 2, server)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server = splitfl(start, tmp_path, "resume", run_folder(folder))
        codes = [one.code(200.0) for one in (server, *clients)]
        assert codes == [0, 0, 0, 0], [one.complained() for one in (server, *clients)]
    finally:
        broker.stop()
    assert story(folder) == undisturbed(start, place, tmp_path / "whole", **BACK)


def test_run_starts_each_client_over_its_own_transport(start: Start, place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    two = {"federation": {"clients": 2, "rounds": 3, "local_steps": 2}}
    path = settings(place, folder, "inproc", **two)
    table = json.loads(path.read_text())
    table["transport"] |= {"name": "mixed", "clients": ["grpc", "rpc"]}
    path.write_text(json.dumps(table))
    command = splitfl(start, folder, "run", path, "--out", folder / "runs")
    assert command.code(200.0) == 0, command.complained()
    assert story(folder) == undisturbed(start, place, tmp_path / "whole", **two)
    page = (run_folder(folder) / "report.html").read_text(encoding="utf-8")
    assert "each client over its own transport" in page
