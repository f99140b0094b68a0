"""A run over PyTorch RPC in which something dies, stalls or is in the way ends in time, in one sentence."""

import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.command import Command, Start, splitfl
from tests.splitfl import toy
from tests.testbed.waiting import is_learning, until

pytestmark = pytest.mark.slow

TIMEOUT_S = 8.0
LONG = {"federation": {"clients": 2, "rounds": 500, "local_steps": 20}, "eval": {"every": 0}}


place = toy.place()


Run = Callable[..., Command]


@pytest.fixture
def begin(place: Path, tmp_path: Path, start: Start) -> Run:
    """Starts a run or a server of the toy experiment over RPC, far longer than any test."""

    def run(command: str = "run", *words: str, **tables: Any) -> Command:
        transport = {"name": "rpc", "timeout_s": TIMEOUT_S, "join_timeout_s": 60.0}
        path = tmp_path / "toy.json"
        path.write_text(json.dumps(toy.table(place, transport=transport, **{**LONG, **tables})))
        return splitfl(start, tmp_path, command, path, "--out", tmp_path / "runs", *words)

    return run


def clients_of(command: Command) -> list[psutil.Process]:
    """The client processes that a run has started, in the order of their numbers."""
    family = psutil.Process(command.process.pid).children()
    return sorted(
        (child for child in family if "join" in child.cmdline()), key=lambda child: child.cmdline()[-1]
    )


def assert_failed(command: Command, folder: Path, *sentences: str) -> None:
    """Exit code 1, the sentence last and alone, the same in summary.json, and nobody left behind."""
    assert command.code(TIMEOUT_S + 20.0) == 1, command.complained()
    lines = command.complained().strip().splitlines()
    assert lines[-1].startswith("Error: ")
    assert all(sentence in lines[-1] for sentence in sentences)
    assert all(line.startswith(("toy: ", "  ")) for line in lines[:-1] if line.strip()), lines
    (path,) = folder.glob("runs/*/summary.json")
    summary = json.loads(path.read_text())
    assert summary["status"] == "failed"
    assert all(sentence in summary["reason"] for sentence in sentences)


@pytest.mark.parametrize(
    ("sent", "sentences"),
    [
        (signal.SIGKILL, ("client 1 died with signal SIGKILL",)),
        (signal.SIGSTOP, ("client 1 sent nothing for 8 s and is lost",)),
    ],
    ids=["killed", "stopped"],
)
def test_a_client_that_is_lost_ends_the_run(
    sent: signal.Signals, sentences: tuple[str, ...], begin: Run, tmp_path: Path
) -> None:
    command = begin()
    until(lambda: is_learning(tmp_path))
    clients = clients_of(command)
    assert len(clients) == 2
    clients[1].send_signal(sent)
    assert_failed(command, tmp_path, *sentences)
    assert not any(client.is_running() for client in clients)


def test_an_interrupted_run_takes_its_clients_with_it(begin: Run, tmp_path: Path) -> None:
    command = begin()
    until(lambda: is_learning(tmp_path))
    clients = clients_of(command)
    assert len(clients) == 2
    os.kill(command.process.pid, signal.SIGINT)
    assert command.code(20.0) == 1
    last = command.complained().strip().splitlines()[-1]
    assert last == "Error: interrupted; the metrics so far are in the run folder"
    assert "Traceback" not in command.complained()
    assert not any(client.is_running() for client in clients)
    (path,) = tmp_path.glob("runs/*/summary.json")
    assert json.loads(path.read_text())["reason"] == "the run was interrupted"


def test_a_server_that_dies_is_missed_by_its_clients(begin: Run, tmp_path: Path, start: Start) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = str(reserved.getsockname()[1])
    server = begin("serve", "--host", "127.0.0.1", "--port", port)
    joined = [
        splitfl(start, tmp_path, "join", f"127.0.0.1:{port}", "--client", str(client), "--timeout", "60")
        for client in range(2)
    ]
    until(lambda: is_learning(tmp_path))
    twin = splitfl(start, tmp_path, "join", f"127.0.0.1:{port}", "--client", "1")
    assert twin.code() == 2
    assert twin.complained() == f"Error: another client 1 has joined 127.0.0.1:{port} already\n"
    server.process.kill()
    for client in joined:
        assert client.code(TIMEOUT_S + 20.0) == 1
        *before, last = client.complained().strip().splitlines()
        assert last.startswith(f"Error: the server at 127.0.0.1:{port} ")
        assert all(line.startswith("client ") for line in before)


def test_a_client_that_never_joins_is_named(begin: Run, tmp_path: Path) -> None:
    server = begin("serve", "--host", "127.0.0.1", "--set", "transport.join_timeout_s=1.0")
    assert server.code() == 1
    last = server.complained().strip().splitlines()[-1]
    assert last.startswith("Error: client 0, 1 did not join at 127.0.0.1:")
    assert last.endswith("within 1 s")


def test_a_client_that_cannot_start_reports_the_reason(begin: Run, tmp_path: Path) -> None:
    """Client 1's texts are too short to learn from, which only its own process finds out."""
    words = [f"{word}\tgroup-0" for word in toy.WORDS] + [
        f"link {word} {word}\tgroup-1" for word in toy.WORDS
    ]
    (tmp_path / "short.tsv").write_text("text\tgroup\n" + "\n".join(words) + "\n")
    toy.model(tmp_path / "gpt2", "gpt2", "causal-lm")
    tables = {
        "model": {"name": str(tmp_path / "gpt2")},
        "task": {"name": "lm", "data": str(tmp_path / "short.tsv"), "packing": "truncate"},
    }
    command = begin(**tables)
    why = "holds no samples: there is nothing to learn from"
    assert_failed(command, tmp_path, "died with exit code 2; last output: client", why)


def test_a_normal_run_prints_only_its_own_lines(place: Path, tmp_path: Path, start: Start) -> None:
    """Not where it stands either: there, an `experiments` of someone else's must not get in the way."""
    (tmp_path / "experiments").mkdir()
    (tmp_path / "experiments" / "__init__.py").write_text("raise ImportError('the wrong package')\n")
    path = tmp_path / "toy.json"
    path.write_text(json.dumps(toy.table(place, transport={"name": "rpc"})))
    code = f"import os, sys; os.chdir({str(tmp_path)!r}); from experiments.cli.main import main; main()"
    command = run_code(start, tmp_path, code, "run", str(path), "--json")
    assert command.code() == 0, command.complained()
    lines = command.complained().splitlines()
    assert lines[0].startswith("toy: sfl-v2, ")
    assert [line[:9] for line in lines if line.startswith("  round")] == ["  round 1", "  round 2"]
    assert all(line.startswith("  ") for line in lines[1:] if line.strip())
    for log in (tmp_path / command.said()["folder"]).glob("client-*.log"):
        assert all(line.startswith("client ") for line in log.read_text().splitlines())


def run_code(start: Start, folder: Path, code: str, *words: str) -> Command:
    output, errors = folder / "said", folder / "errors"
    root = str(Path(__file__).parents[2])
    process = start(sys.executable, "-P", "-c", code, *words, output=output, errors=errors, PYTHONPATH=root)
    return Command(process, output, errors)
