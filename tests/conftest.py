"""What holds for every test: one thread, no network, the same chance each time, no process left behind."""

import gc
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings

from tests import deadline
from tests.deadline import pytest_collection_modifyitems, pytest_runtest_setup, pytest_terminal_summary

__all__ = ["pytest_collection_modifyitems", "pytest_runtest_setup", "pytest_terminal_summary"]

# Read when torch and the hub's client are imported, here and in the processes that a test starts.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    TOKENIZERS_PARALLELISM="false",
    HF_HUB_OFFLINE="1",
    HF_DATASETS_OFFLINE="1",
    CUBLAS_WORKSPACE_CONFIG=":4096:8",
    TORCH_CPP_LOG_LEVEL="FATAL",  # what its C++ side says of lost peers it also raises, without a stack trace
)

# What is started in the background by a shell without job control inherits that interrupts are ignored.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

gc.disable()  # until all tests are collected

settings.register_profile("repeatable", derandomize=True, deadline=None)
settings.load_profile("repeatable")


def _refuse_the_network(event: str, arguments: tuple[Any, ...]) -> None:
    """Stops a connection that would leave this machine; a datagram socket's `connect` sends nothing."""
    if event != "socket.connect":
        return
    opened, address = arguments
    if opened.family not in (socket.AF_INET, socket.AF_INET6) or opened.type == socket.SOCK_DGRAM:
        return
    if address[0] not in ("localhost", "::1", "") and not address[0].startswith("127."):
        raise RuntimeError(f"a test tried to reach {address}; tests stay on this machine")


sys.addaudithook(_refuse_the_network)


def pytest_addoption(parser: pytest.Parser) -> None:
    deadline.pytest_addoption(parser)
    parser.addoption("--golden-write", action="store_true", help="rewrite the golden files, do not compare")


def pytest_collection_finish() -> None:
    """Spares the garbage collector what lives to the end: imported modules and collected tests."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _same_chance_every_time() -> None:
    """Seeds torch's global generator, where a test's module has imported torch at all."""
    if "torch" in sys.modules:
        sys.modules["torch"].default_generator.manual_seed(0)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[Any], None]:
    """Compares plain data, to the last digit, with the JSON file named after the test and lying beside it."""
    path = Path(request.path).parent / f"{request.node.name}.json"

    def check(got: Any) -> None:
        text = json.dumps(got, indent=1) + "\n"
        if request.config.getoption("--golden-write"):
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"no golden file {path.name}; `make golden` writes it"
        assert json.loads(text) == json.loads(path.read_text(encoding="utf-8"))

    return check


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts processes, which with their own children are gone when the test is over.

    `start("python", "-c", ..., output=path)` writes what the process says to that file
    (default: `output.N` in the test's folder) and hands back the process. What it says of
    errors goes there too, or to the file `errors`.
    """
    started: list[subprocess.Popen[bytes]] = []

    def run(
        *command: str | Path, output: Path | None = None, errors: Path | None = None, **env: str
    ) -> subprocess.Popen[bytes]:
        with ExitStack() as files:
            file = files.enter_context((output or tmp_path / f"output.{len(started)}").open("wb"))
            process = subprocess.Popen(
                [str(word) for word in command],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT if errors is None else files.enter_context(errors.open("wb")),
                env={**os.environ, **env},
            )
        started.append(process)
        return process

    yield run
    for process in started:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends one process by its id, and whatever it had started."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.kill()
    process.wait(timeout=10)
    for child in family:
        if child.is_running():
            child.kill()
    psutil.wait_procs(family, timeout=5)
