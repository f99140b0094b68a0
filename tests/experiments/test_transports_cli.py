"""Runs by command over the transports that cross firewalls, with their secrets and their faults."""

import json
import os
import re
import signal
import socket
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from tests.command import Start, splitfl
from tests.splitfl import toy
from tests.splitfl.transport.broker_process import BrokerProcess
from tests.testbed.waiting import is_learning, until

TIMEOUT_S = 6.0
LONG = {"federation": {"clients": 2, "rounds": 500, "local_steps": 20}, "eval": {"every": 0}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model", is_base=True)
    toy.data(folder / "data.tsv")
    made = CliRunner().invoke(main, ["certs", str(folder / "secrets"), "--clients", "2"])
    assert made.exit_code == 0, made.output
    assert "client-1.token" in made.stdout
    return folder


def preset(place: Path, folder: Path, transport: dict[str, Any], **tables: Any) -> Path:
    """The toy experiment over this transport, as a file."""
    path = folder / "toy.json"
    path.write_text(json.dumps(toy.table(place, transport=transport, **tables)))
    return path


def test_certificates_are_not_made_twice_in_one_place(place: Path) -> None:
    again = CliRunner().invoke(main, ["certs", str(place / "secrets"), "--clients", "2"])
    assert again.exit_code == 2
    assert again.stderr.startswith(f"Error: {place / 'secrets'} has a CA already")


def test_the_run_commands_own_clients_find_their_secrets_in_a_folder_only(
    place: Path, tmp_path: Path
) -> None:
    own = {"tls_cert": str(place / "secrets/server.crt"), "tls_key": str(place / "secrets/server.key")}
    path = preset(place, tmp_path, {"name": "grpc", **own})
    result = CliRunner().invoke(main, ["run", str(path), "--out", str(tmp_path / "runs")])
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith(
        "Error: the clients that `run` starts find their files in"
    )
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("--secrets", "x", "--token-file", "y"), "--secrets stands for all of a client's files"),
        (("--tls-cert", "x"), "transport.tls_cert and transport.tls_key are given together"),
        (("--secrets", "nowhere"), "cannot read nowhere/"),
    ],
)
def test_a_client_gets_the_reason_why_its_credentials_are_refused(
    words: tuple[str, ...], reason: str
) -> None:
    command = ["join", "127.0.0.1:1", "--transport", "grpc", "--client", "1", *words]
    result = CliRunner().invoke(main, command)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {reason}")


@pytest.mark.slow
def test_a_run_over_tls_leaves_no_secret_behind_and_shows_none(
    place: Path, tmp_path: Path, start: Start
) -> None:
    path = preset(place, tmp_path, {"name": "grpc", "secrets": str(place / "secrets")})
    command = splitfl(start, tmp_path, "run", path, "--out", tmp_path / "runs", "--json")
    shown: set[str] = set()

    def is_over() -> bool:
        if command.process.poll() is None:
            family = [psutil.Process(command.process.pid), *psutil.Process(command.process.pid).children()]
            shown.update(word for one in family if one.is_running() for word in lines_of(one))
        return command.process.poll() is not None

    until(is_over, 150.0)
    assert command.code() == 0, command.complained()
    assert "--secrets" in shown
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    told = b"\n".join(path.read_bytes() for path in files) + "\n".join(shown).encode()
    tokens = [(place / f"secrets/client-{client}.token").read_bytes().strip() for client in range(2)]
    keys = [(place / f"secrets/{who}.key").read_bytes().splitlines()[1] for who in ("server", "client-0")]
    assert not any(secret in told for secret in [*tokens, *keys])
    for log in Path(command.said()["folder"]).glob("client-*.log"):
        assert all(line.startswith("client ") for line in log.read_text().splitlines()), log.read_text()
    lines = [line for line in command.complained().splitlines() if line.strip()]
    assert [line[:9] for line in lines if line.startswith("  round")] == ["  round 1", "  round 2"]


def lines_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.mark.slow
def test_serve_says_how_to_join_and_joins_meet_over_mqtt(place: Path, tmp_path: Path, start: Start) -> None:
    broker = BrokerProcess(tmp_path)
    try:
        path = preset(place, tmp_path, {"name": "mqtt", "port": broker.port})
        server = splitfl(start, tmp_path, "serve", path, "--host", "127.0.0.1", "--out", tmp_path / "runs")
        found = until(
            lambda: re.search(r"splitfl join (\S+ --transport mqtt) --client N", server.complained()),
            150.0,
        )
        joined = [
            splitfl(start, tmp_path, "join", *found[1].split(), "--client", str(client))
            for client in range(2)
        ]
        assert [command.code(150.0) for command in (server, *joined)] == [0, 0, 0], server.complained()
    finally:
        broker.stop()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "sentence"),
    [
        (signal.SIGKILL, "client 1 died with signal SIGKILL"),
        pytest.param(signal.SIGSTOP, "client 1 sent nothing for 6 s", marks=pytest.mark.long),
    ],
    ids=["killed", "stopped"],
)
def test_a_client_that_is_lost_is_named(
    sent: signal.Signals, sentence: str, place: Path, tmp_path: Path, start: Start
) -> None:
    path = preset(place, tmp_path, {"name": "grpc", "timeout_s": TIMEOUT_S}, **LONG)
    command = splitfl(start, tmp_path, "run", path, "--out", tmp_path / "runs")
    until(lambda: is_learning(tmp_path), 150.0)
    family = psutil.Process(command.process.pid).children()
    clients = sorted((one for one in family if "join" in one.cmdline()), key=lambda one: one.cmdline()[-1])
    clients[1].send_signal(sent)
    assert command.code(TIMEOUT_S + 20.0) == 1
    assert command.complained().strip().splitlines()[-1].startswith(f"Error: {sentence}")
    assert not any(client.is_running() for client in clients)


@pytest.mark.slow
def test_a_server_that_dies_is_waited_for_and_then_missed(place: Path, tmp_path: Path, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = str(reserved.getsockname()[1])
    tables = {**LONG, "fault_tolerance": {"reconnect_timeout_s": 3.0}}
    path = preset(place, tmp_path, {"name": "grpc", "timeout_s": TIMEOUT_S}, **tables)
    words = ("serve", path, "--host", "127.0.0.1", "--port", port, "--out", tmp_path / "runs")
    server = splitfl(start, tmp_path, *words)
    joining = ("join", f"127.0.0.1:{port}", "--transport", "grpc", "--timeout", "60")
    joined = [splitfl(start, tmp_path, *joining, "--client", str(client)) for client in range(2)]
    until(lambda: is_learning(tmp_path), 150.0)
    os.kill(server.process.pid, signal.SIGKILL)
    for client in joined:
        assert client.code(120.0) == 1
        *before, last = client.complained().strip().splitlines()
        assert last == f"Error: the server at 127.0.0.1:{port} was silent for 6 s"
        assert any("is away" in line and "tries again in" in line for line in before)
