"""The programs of each node: `splitfl serve` or `resume`, `splitfl join`, and those of the overlay."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from splitfl.core.errors import ConfigError
from testbed.inventory.nodes import CLIENT, SERVER, Inventory, Node
from testbed.remote.deployment import MIXED, OVERLAY_HOST, Deployment, rpc_port
from testbed.remote.message_delays import MESSAGES

ROOT: Final = "{root}"
"""Stands for the node's folder, which its agent knows."""
OVERLAY: Final = "overlay"
_SPLITFL: Final = ("-m", "experiments")
_REACH_S: Final = "120"
_RUNS: Final = f"{ROOT}/run/runs"
_TIMES: Final = ("--message-times", f"{ROOT}/run/{MESSAGES}")


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program of the Python interpreter on a node: its name there, arguments and environment."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)


def has_secrets(deployment: Deployment) -> bool:
    """Whether the transport takes certificates and tokens that `deploy` makes."""
    return deployment.transport == OVERLAY or "grpc" in deployment.transports


def overlay_program(deployment: Deployment, inventory: Inventory, node: Node) -> Program | None:
    """The node's end of the overlay; None over another transport."""
    if deployment.transport != OVERLAY:
        return None
    words = ["testbed", OVERLAY]
    if node.role == SERVER:
        words += ["hub", "--listen", f"{deployment.host}:{deployment.listen_port}"]
    else:
        words += ["join", deployment.route(node)]
        words += ["--name", f"client-{inventory.clients.index(node)}"]
    return _program(OVERLAY, deployment, [*words, *_secrets(deployment)])


def server_program(deployment: Deployment, node: Node, interrupted: str) -> Program:
    """The server; it resumes the run of this name, if given."""
    if interrupted:
        return _program(SERVER, deployment, ["resume", f"{_RUNS}/{interrupted}", *_TIMES])
    host, port = deployment.host, deployment.listen_port
    if deployment.transport == "mqtt":
        host, port = deployment.address, deployment.port
    if deployment.transport == OVERLAY:
        host, port = OVERLAY_HOST, rpc_port(port)
    own = {"model.name": _model(deployment), "task.data": _data(deployment), "server.device": node.device}
    if "grpc" in deployment.transports:
        own["transport.secrets"] = f"{ROOT}/{deployment.folder}/secrets"
    if "mqtt" in deployment.transports:
        own["transport.topic"] = topic(deployment)
    settings = [
        word for key, value in own.items() if value for word in ("--set", f"{key}={json.dumps(value)}")
    ]
    words = ["serve", f"{ROOT}/{deployment.folder}/{deployment.name}.json", "--host", host]
    words += ["--port", str(port)] if deployment.transport != MIXED else []
    words += ["--out", _RUNS, *_TIMES]
    return _program(SERVER, deployment, [*words, *settings])


def client_program(deployment: Deployment, inventory: Inventory, node: Node) -> Program:
    """The client of this node."""
    number = inventory.clients.index(node)
    name, where = deployment.transport_of(number), deployment.route(node)
    if name == OVERLAY:
        name, where = "rpc", f"{OVERLAY_HOST}:{rpc_port(deployment.listen_port)}"
    where += f"/{topic(deployment)}" if name == "mqtt" else ""
    words = ["join", where, "--transport", name, "--client", str(number)]
    words += ["--timeout", _REACH_S, "--state", f"{ROOT}/run/state", *_TIMES]
    words += ["--model", _model(deployment)] if deployment.model else []
    if node.data:
        words += ["--data", node.data]
    elif deployment.data:
        words += ["--data", _data(deployment), "--dealt"]
    words += ["--device", node.device] if node.device else []
    words += _secrets(deployment) if name == "grpc" else []
    return _program(CLIENT, deployment, words)


def topic(deployment: Deployment) -> str:
    """The run's topic at the broker: the setting, or the version."""
    return str(deployment.settings["transport"].get("topic") or f"splitfl-{deployment.version}")


def check_transport(table: Mapping[str, Any]) -> None:
    """Raises ConfigError for settings of [transport] that name files, which the nodes do not have."""
    for key in ("secrets", "token_file", "tls_cert", "tls_key", "tls_ca", "password_file"):
        if table.get(key):
            raise ConfigError(
                f"transport.{key} must be empty with `splitfl testbed`, which makes the nodes' secrets, "
                f"got {table[key]!r}"
            )


def _program(name: str, deployment: Deployment, words: list[str]) -> Program:
    needs_hub = str(deployment.settings["task"]["data"]).startswith("hf:")
    env = {} if needs_hub else {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    return Program(name=name, argv=(*_SPLITFL, *words), env=env)


def _secrets(deployment: Deployment) -> list[str]:
    return ["--secrets", f"{ROOT}/{deployment.folder}/secrets"]


def _model(deployment: Deployment) -> str:
    return f"{ROOT}/{deployment.folder}/model" if deployment.model else ""


def _data(deployment: Deployment) -> str:
    if not deployment.data:
        return ""
    path = Path(deployment.data)
    inside = f"{ROOT}/{deployment.folder}/data"
    return inside if path.is_dir() else f"{inside}/{path.name}"
