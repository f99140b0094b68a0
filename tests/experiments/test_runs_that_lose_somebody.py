"""Whole runs whose processes are killed: they go on, and end with the same bits."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from splitfl.server.run import write_json
from splitfl.setup.experiment_file import as_dict, from_dict
from tests.command import Command, Start, splitfl
from tests.splitfl import toy

pytestmark = pytest.mark.slow

ROUNDS = 30


place = toy.place(is_base=True, rows=60)


def settings(place: Path, folder: Path, transport: str = "grpc", **tables: dict[str, Any]) -> Path:
    federation = {"clients": 2, "rounds": ROUNDS, "local_steps": 2, **tables.pop("federation", {})}
    table = toy.table(
        place,
        federation=federation,
        transport={"name": transport, "timeout_s": 10.0},
        eval={"every": ROUNDS},
        **tables,
    )
    write_json(folder / "experiment.json", as_dict(from_dict(table)))
    return folder / "experiment.json"


def run_folder(folder: Path) -> Path:
    (found,) = (one for one in (folder / "runs").iterdir() if one.is_dir())
    return found


def rounds_done(folder: Path) -> int:
    try:
        text = (run_folder(folder) / "metrics.jsonl").read_text()
    except (OSError, ValueError):
        return 0
    return text.count('"event":"round"')


def await_round(folder: Path, number: int, command: Command) -> None:
    deadline_s = time.monotonic() + 90
    while rounds_done(folder) < number:
        assert command.process.poll() is None, command.complained()
        assert time.monotonic() < deadline_s, command.complained()
        time.sleep(0.02)


def client_of(command: Command, client: int) -> psutil.Process:
    for child in psutil.Process(command.process.pid).children():
        words = child.cmdline()
        if "join" in words and words[words.index("--client") + 1] == str(client):
            return child
    raise AssertionError(f"client {client} does not run")


def story(folder: Path) -> list[dict[str, Any]]:
    """What happened, but for the wall clock and the memory."""
    rows = [json.loads(line) for line in (run_folder(folder) / "metrics.jsonl").read_text().splitlines()]
    kept = [row for row in rows if row["event"] != "memory"]
    return [{key: value for key, value in row.items() if key != "wall_s"} for row in kept]


def port_of(folder: Path, server: Command) -> int:
    """Where a server listens, waited for."""
    deadline_s = time.monotonic() + 60
    while not list((folder / "runs").glob("*/server.json")):
        assert time.monotonic() < deadline_s, server.complained()
        time.sleep(0.05)
    return int(json.loads((run_folder(folder) / "server.json").read_text())["port"])


def play(start: Start, folder: Path, experiment: Path, then: Callable[[Command], None]) -> Command:
    folder.mkdir(exist_ok=True)
    command = splitfl(start, folder, "run", experiment, "--out", folder / "runs")
    then(command)
    return command


def undisturbed(start: Start, place: Path, folder: Path, **tables: dict[str, Any]) -> list[dict[str, Any]]:
    folder.mkdir()
    inproc = settings(place, folder, "inproc", **tables)
    command = play(start, folder, inproc, lambda _: None)
    assert command.code() == 0, command.complained()
    return story(folder)


@pytest.mark.parametrize(
    ("transport", "air"),
    [
        ("grpc", {}),
        pytest.param("grpc", {"scenario": "lab-wifi"}, marks=pytest.mark.long),
        pytest.param("rpc", {}, marks=pytest.mark.long),
    ],
    ids=["grpc", "grpc in a cell", "rpc"],
)
def test_all_go_back_where_a_client_is_killed_and_end_with_the_same_bits(
    start: Start, place: Path, tmp_path: Path, transport: str, air: dict[str, Any]
) -> None:
    back = {"fault_tolerance": {"on_loss": "rollback"}, "link": air}

    def kill(command: Command) -> None:
        for number, client in ((3, 1), (9, 0)):
            await_round(tmp_path / "broken", number, command)
            client_of(command, client).kill()

    (tmp_path / "broken").mkdir()
    experiment = settings(place, tmp_path / "broken", transport, **back)
    command = play(start, tmp_path / "broken", experiment, kill)
    assert command.code() == 0, command.complained()
    assert (
        command.complained().count("rolling back to the last checkpoint") == 2
    )  # once for each that was killed
    assert story(tmp_path / "broken") == undisturbed(start, place, tmp_path / "whole", **back)


@pytest.mark.parametrize(
    "air",
    [{}, pytest.param({"scenario": "lab-wifi"}, marks=pytest.mark.long)],
    ids=["own links", "a cell"],
)
def test_a_server_that_is_killed_and_resumed_ends_with_the_same_bits(
    start: Start, place: Path, tmp_path: Path, air: dict[str, Any]
) -> None:
    def kill(command: Command) -> None:
        await_round(tmp_path / "broken", 4, command)
        command.process.kill()
        command.process.wait()

    (tmp_path / "broken").mkdir()
    play(start, tmp_path / "broken", settings(place, tmp_path / "broken", link=air), kill)
    resumed = splitfl(start, tmp_path, "resume", run_folder(tmp_path / "broken"), "--json")
    assert resumed.code() == 0, resumed.complained()
    assert "resuming from round" in resumed.complained()
    assert story(tmp_path / "broken") == undisturbed(start, place, tmp_path / "whole", link=air)


@pytest.mark.parametrize("transport", ["grpc", pytest.param("rpc", marks=pytest.mark.long)])
def test_the_others_continue_without_a_client_until_it_rejoins(
    start: Start, place: Path, tmp_path: Path, transport: str
) -> None:
    def kill(command: Command) -> None:
        await_round(tmp_path / "broken", 3, command)
        client_of(command, 1).send_signal(signal.SIGKILL)

    (tmp_path / "broken").mkdir()
    experiment = settings(place, tmp_path / "broken", transport, fault_tolerance={"on_loss": "continue"})
    command = play(start, tmp_path / "broken", experiment, kill)
    assert command.code() == 0, command.complained()
    rows = story(tmp_path / "broken")
    assert [row["client"] for row in rows if row["event"] == "lost"] == [1]
    steps = {(row["client"], row["round"]) for row in rows if row["event"] == "step"}
    assert {(0, number) for number in range(ROUNDS)} <= steps
    assert rows[-1]["event"] == "round"


def test_a_run_waits_for_a_missing_client_and_then_continues_without(
    start: Start, place: Path, tmp_path: Path
) -> None:
    experiment = settings(place, tmp_path, fault_tolerance={"on_loss": "continue"})
    late = ("--set", "transport.join_timeout_s=40")  # the other one has to load its libraries meanwhile
    where = ("--host", "127.0.0.1", "--out", tmp_path / "runs")
    server = splitfl(start, tmp_path, "serve", experiment, *late, *where)
    address = f"127.0.0.1:{port_of(tmp_path, server)}"
    client = splitfl(start, tmp_path, "join", address, "--transport", "grpc", "--client", "0")
    assert server.code() == 0, server.complained()
    assert client.code() == 0, client.complained()
    assert "client 1 did not join within 40 s; the others continue" in server.complained()
    rows = story(tmp_path)
    assert {row["client"] for row in rows if row["event"] == "step"} == {0}
    assert {row["client"] for row in rows if row["event"] == "absent"} == {1}


def test_clients_elsewhere_wait_for_a_server_that_is_away(start: Start, place: Path, tmp_path: Path) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    patient = {"fault_tolerance": {"reconnect_timeout_s": 240.0}}
    experiment = settings(place, folder, **patient)
    words = ("serve", experiment, "--host", "127.0.0.1", "--out", folder / "runs")
    server = splitfl(start, folder, *words)
    port = port_of(folder, server)
    clients = []
    for client in range(2):
        own = tmp_path / f"client-{client}"
        own.mkdir()
        where = ("join", f"127.0.0.1:{port}", "--transport", "grpc", "--client", str(client))
        clients.append(splitfl(start, own, *where, "--state", own / "state"))
    await_round(folder, 3, server)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    time.sleep(1.0)
    resumed = splitfl(start, tmp_path, "resume", run_folder(folder))
    assert resumed.code(200.0) == 0, resumed.complained()
    for one in clients:
        assert one.code() == 0, one.complained()
        assert "reconnecting" in one.complained()
    assert story(folder) == undisturbed(start, place, tmp_path / "whole", **patient)


@pytest.mark.long
def test_over_rpc_clients_wait_for_a_restarted_server_and_start_from_their_checkpoints(
    start: Start, place: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "served"
    folder.mkdir()
    words = ("serve", settings(place, folder, "rpc"), "--host", "127.0.0.1", "--out", folder / "runs")
    server = splitfl(start, folder, *words)
    where = ("join", f"127.0.0.1:{port_of(folder, server)}", "--transport", "rpc", "--client")
    clients = [
        splitfl(start, tmp_path, *where, str(client), "--state", tmp_path / f"client-{client}")
        for client in range(2)
    ]
    for round_index in (2, 4):
        await_round(folder, round_index, server)
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait()
        server = splitfl(start, tmp_path, "resume", run_folder(folder))
    assert [one.code(200.0) for one in (server, *clients)] == [0, 0, 0], server.complained()
    for one in clients:
        assert one.complained().count("reconnecting") == 2
    assert story(folder) == undisturbed(start, place, tmp_path / "whole")


def test_over_rpc_a_client_that_keeps_nothing_ends_with_its_server(
    start: Start, place: Path, tmp_path: Path
) -> None:
    words = ("serve", settings(place, tmp_path, "rpc"), "--host", "127.0.0.1", "--out", tmp_path / "runs")
    server = splitfl(start, tmp_path, *words)
    where = ("join", f"127.0.0.1:{port_of(tmp_path, server)}", "--transport", "rpc", "--client")
    clients = [splitfl(start, tmp_path, *where, str(client)) for client in range(2)]
    await_round(tmp_path, 2, server)
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    for one in clients:
        assert one.code(30.0) == 1
        assert "Error: the server at 127.0.0.1" in one.complained()
        assert "went away" in one.complained()


def test_a_finished_run_is_not_resumed(start: Start, place: Path, tmp_path: Path) -> None:
    undisturbed(start, place, tmp_path / "whole")
    again = splitfl(start, tmp_path, "resume", run_folder(tmp_path / "whole"))
    assert again.code() == 2
    assert "there is nothing to resume" in again.complained()
