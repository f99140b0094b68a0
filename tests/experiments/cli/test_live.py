"""`splitfl channel emulate` and `proxy` as a person uses them."""

import os
import shlex
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from experiments.cli.main import main
from experiments.live import commands as live_commands
from tests.command import Start, splitfl
from tests.testbed.waiting import until


def needs_root(test: Callable[..., None]) -> Callable[..., None]:
    """What a test of real packets takes."""
    may = os.geteuid() == 0 and Path("/dev/net/tun").exists()
    skips = pytest.mark.skipif(not may, reason="live links need root and /dev/net/tun")
    marked: Callable[..., None] = pytest.mark.root(pytest.mark.slow(skips(test)))
    return marked


def emulate(*words: str) -> Result:
    return CliRunner().invoke(main, ["channel", "emulate", *words])


FAR = """
import socket, sys
came, _ = socket.create_server(("10.77.0.1", 90)).accept()
with open(sys.argv[1], "wb") as got:
    got.write(came.recv(9))
came.sendall(b"k")
"""
NEAR = """
import os, sys, socket
far = socket.create_connection((os.environ["SPLITFL_FAR"], 90), 10)
far.sendall(b"hello")
far.recv(1)
sys.exit(3)
"""


@needs_root
def test_a_command_reaches_the_far_end_and_its_exit_code_is_handed_on(tmp_path: Path) -> None:
    got = tmp_path / "got"
    far = shlex.join([sys.executable, "-c", FAR, str(got)])
    result = emulate("--rate", "1e6", "--delay", "0.01", "--far", far, "--", sys.executable, "-c", NEAR)
    assert result.exit_code == 3, result.output
    assert got.read_bytes() == b"hello"
    assert "client  direction  offered" in result.output
    assert "The emulator" in result.output


@needs_root
def test_a_far_end_that_fails_is_named() -> None:
    result = emulate("--far", "exit 7", "--", "true")
    assert result.exit_code == 2
    assert "--far command 'exit 7' exited at once with exit code 7" in result.output


def test_a_proxy_states_its_limits_and_forwards_to_its_target(start: Start, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as target:
        port = target.getsockname()[1]
        command = splitfl(start, tmp_path, "channel", "proxy", f"127.0.0.1:{port}", "--delay", "0.01")
        until(lambda: command.complained().endswith("\n"))
        at, _, said = command.complained().partition(" ")
        assert said.startswith(f"forwards to 127.0.0.1:{port}; rate and delay only; loss")
        host, _, listening = at.rpartition(":")

        def answer() -> None:
            came, _ = target.accept()
            with came:
                came.sendall(came.recv(10))

        thread = threading.Thread(target=answer)
        thread.start()
        with socket.create_connection((host, int(listening)), 10) as client:
            client.sendall(b"to and fro")
            assert client.recv(10) == b"to and fro"
        thread.join()


def test_emulate_describes_the_trace_that_it_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "lte.csv").write_text("time_s,rate_bps,delay_s,loss_rate\n0,20e6,0.01,0\n1,10e6,0.03,0.02\n")
    live_commands.link_of("", tmp_path / "lte.csv", 0.0, 0.0, 0.0, 0)
    said = capsys.readouterr().err
    assert "lte.csv: 2 rows over 1 s, median rate 15 Mbit/s, median delay 20 ms, mean loss 1.00%" in said
