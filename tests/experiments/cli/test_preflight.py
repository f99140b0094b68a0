"""A mistyped host, port, trace, scenario or file of secrets is refused before anything heavy is loaded."""

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from experiments.presets import find, names, without_learning

ASK = """
import sys
from experiments.cli.main import main
try:
    main(sys.argv[1:])
finally:
    assert not {"torch", "transformers", "peft"} & set(sys.modules), "heavy things were loaded"
"""
TAKEN = "the port that is taken"
MISSING = "no-such-file"
NOBODY = "no.such.host.invalid"

WRONG = {
    "a port out of range": (["serve", "demo", "--port", "99999"], "transport.port must be at most 65535"),
    "a port below zero": (["serve", "demo", "--port", "-1"], "transport.port must be at least 0"),
    "a port that is taken": (["run", "demo", "--set", f"transport.port={TAKEN}"], "Address already in use"),
    "a host of nobody": (["serve", "demo", "--host", NOBODY], "has no address"),
    "another's address": (["serve", "demo", "--host", "192.0.2.77"], "no interface of this machine has"),
    "IPv6 over RPC": (["serve", "demo", "--host", "::1"], "PyTorch RPC takes IPv4 addresses only, got '::1'"),
    "a broker of nobody": (
        ["serve", "demo", "--set", "transport.name=mqtt", "--host", NOBODY],
        f"the host '{NOBODY}' has no address",
    ),
    "a server of nobody": (
        ["join", f"{NOBODY}:29500", "--client", "0"],
        f"the host '{NOBODY}' has no address",
    ),
    "a broker to join of nobody": (
        ["join", f"{NOBODY}:1883/topic", "--transport", "mqtt", "--client", "0"],
        f"the host '{NOBODY}' has no address",
    ),
    "a transport that has no server": (
        ["serve", "demo", "--set", "transport.name=inproc"],
        "transport.name must be one of rpc, grpc, mqtt, radio-nodes, mixed for clients to join, got 'inproc'",
    ),
    "a transport that no client joins by": (
        ["join", "127.0.0.1:1", "--client", "0", "--transport", "inproc"],
        "the transport inproc runs server and clients in one process",
    ),
    "an unknown transport to join by": (
        ["join", "127.0.0.1:1", "--client", "0", "--transport", "mqt"],
        "unknown --transport 'mqt'; did you mean 'mqtt'? have",
    ),
    "an option that the transport does not read": (
        ["join", "127.0.0.1:1", "--client", "0", "--password-file", MISSING],
        "--password-file is read by mqtt, not by rpc",
    ),
    "tokens for a broker": (
        ["join", "127.0.0.1:1/x", "--client", "0", "--transport", "mqtt", "--secrets", MISSING],
        "--secrets is read by grpc, radio-nodes, not by mqtt",
    ),
    "a setting that the transport does not read, to plan with": (
        ["plan", "demo", "--set", "transport.topic=x"],
        "unknown key 'transport.topic'; the transport 'rpc' has the keys name, host, port",
    ),
    "no port": (["join", "127.0.0.1", "--client", "0"], "a server's address must be HOST:PORT"),
    "an IPv6 address without brackets": (["join", "::1:29500", "--client", "0"], "must be in brackets"),
    "secrets that are not there": (
        ["join", "127.0.0.1:1", "--client", "0", "--transport", "grpc", "--secrets", MISSING],
        f"cannot read {MISSING}",
    ),
    "a server's secrets that are not there": (
        ["run", "demo", "--set", "transport.name=grpc", "--set", f"transport.secrets={MISSING}"],
        f"cannot read {MISSING}",
    ),
    "a trace that is not there": (["run", "demo", "--set", f"link.trace={MISSING}.csv"], MISSING),
    "a trace to plan with": (["plan", "demo", "--set", f"link.trace={MISSING}.csv"], MISSING),
    "a trace to compare on": (
        ["compare", "--methods", "sfl-v2", "--set", f"link.trace={MISSING}.csv"],
        MISSING,
    ),
    "an unknown scenario": (["run", "demo", "--set", "link.scenario=nowhere"], "unknown scenario 'nowhere'"),
    "a scenario beside another method": (
        ["run", "demo", "--set", "method.name=fedavg", "--set", "link.scenario=nowhere"],
        "unknown scenario 'nowhere'",
    ),
    "a scenario that is too small": (
        ["run", "demo", "--set", "link.scenario=ideal", "--set", "federation.clients=5000"],
        "has 4 users, fewer than the 5000 clients",
    ),
    "an unknown tracker": (
        ["run", "demo", "--set", "tracking.to=['tensorbord']"],
        "unknown tracking.to 'tensorbord'; did you mean 'tensorboard'?",
    ),
    "a key of another tracker": (
        ["serve", "demo", "--set", "tracking.to=['tensorboard']", "--set", "tracking.project=radio"],
        "'tracking.project'; the tracker 'tensorboard' has the keys to; it is a key of wandb, mlflow",
    ),
    "an unknown preset": (["run", "dema"], "unknown preset 'dema'; did you mean 'demo'?"),
}

if find_spec("mlflow") is None:
    WRONG["a tracker that is not installed"] = (
        ["compare", "--methods", "sfl-v1", "--set", "tracking.to=['mlflow']"],
        "whose package mlflow is not installed: pip install 'splitfl[mlflow]'",
    )


@pytest.mark.slow
@pytest.mark.parametrize("what", WRONG)
def test_it_is_refused_in_one_line_before_torch_is_loaded(what: str, tmp_path: Path) -> None:
    words, sentence = WRONG[what]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-P", "-c", ASK, *(word.replace(TAKEN, port) for word in words)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert sentence in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", names())
def test_settings_read_without_torch_equal_those_of_the_run(name: str) -> None:
    _, whole = find(name, [])
    part = without_learning(name, [])
    assert (part.federation, part.link, part.train, part.transport) == (
        whole.federation,
        whole.link,
        whole.train,
        whole.transport,
    )
