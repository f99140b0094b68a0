"""The choice of where runs are executed, and what is refused before anything is sent."""

import json
import platform
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import splitfl
from splitfl.cluster.node_state import differences, files_of, state
from splitfl.cluster.ray_cluster import Origin, check_reachable, lack_of_room
from splitfl.comparison.backends import backend_of
from splitfl.comparison.cached_runs import finished
from splitfl.comparison.folder_archive import unpack
from splitfl.comparison.process_pool import ProcessPool
from splitfl.comparison.ray_backend import check_tracking, needs_of, run_on_node
from splitfl.config import DeviceConfig, RunConfig
from splitfl.core.errors import ConfigError, PeerLost
from splitfl.setup.experiment_file import as_dict
from tests.channel.iq.free_ports import free_ports
from tests.splitfl import toy

folder = toy.place()


def test_runs_are_executed_in_processes_by_default() -> None:
    assert backend_of("processes", None) == ProcessPool(1)
    assert backend_of("processes", 2) == ProcessPool(2)


@pytest.mark.parametrize(
    ("on", "jobs", "reason"),
    [
        ("dask", None, "unknown on 'dask'.*have processes, ray"),
        ("processes:9", None, "on must be processes without an address, got 'processes:9'"),
        ("ray", 2, "jobs counts processes of this machine; Ray runs as many as have CPUs, got 2"),
        ("ray:gpu", None, "the address of a Ray cluster, unless auto, must be HOST:PORT, got 'gpu'"),
        ("ray", None, r"--on ray needs Ray: pip install 'splitfl\[ray\]'"),
    ],
)
def test_a_backend_that_there_is_not_is_refused(
    on: str, jobs: int | None, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError, match=reason):
        backend_of(on, jobs)
    with pytest.raises(ConfigError, match=reason):
        splitfl.compare({}, "fedlora", on=on, jobs=jobs or 0)


def test_a_cluster_without_tokens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(ConfigError, match=r"RAY_AUTH_MODE must be token.*; got 'disabled'"):
        backend_of("ray", None)


def test_an_address_where_nothing_answers_is_named() -> None:
    address = f"127.0.0.1:{free_ports(1)}"
    with pytest.raises(PeerLost, match=f"no Ray cluster answers at {address}: Connection refused"):
        check_reachable(address)


def test_a_relative_path_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    relative: dict[str, dict[str, Any]] = {
        "task.data": {"task": {"data": "data.tsv"}},
        "model.name": {"model": {"name": "model"}},
    }
    for key, table in relative.items():
        with pytest.raises(ConfigError, match=f"{key} must be an absolute path, the same on every node"):
            files_of(toy.config(folder, **table))


def test_a_node_differs_by_the_contents_of_a_file(folder: Path, tmp_path: Path) -> None:
    files = files_of(toy.config(folder))
    assert {key for key, _ in files} == {"model.name", "task.data"}
    here = state(files)
    assert differences(here, state(files)) == ""
    data = f"task.data {folder / 'data.tsv'}"
    assert differences(here, here | {data: "absent", "torch": "1.0"}) == (
        f"torch is 1.0 there and {here['torch']} here; {data} is absent there and {here[data]} here"
    )
    copy = toy.data(tmp_path / "data.tsv")
    same, other = (state({("task.data", str(path))}) for path in (copy, toy.data(tmp_path / "more.tsv", 121)))
    assert same[f"task.data {copy}"] == here[data] != other[f"task.data {tmp_path / 'more.tsv'}"]


@pytest.mark.parametrize(
    ("client", "server", "has_gpus", "needs"),
    [
        ("auto", "auto", False, {"CPU": 3, "GPU": 0}),
        ("auto", "cpu", True, {"CPU": 3, "GPU": 1}),
        ("cpu", "cuda", False, {"CPU": 3, "GPU": 1}),
        ("cuda:0", "cuda:1", True, {"CPU": 3, "GPU": 2}),
    ],
)
def test_a_run_needs_its_threads_and_devices(
    client: str, server: str, has_gpus: bool, needs: dict[str, int]
) -> None:
    config = RunConfig(
        client=DeviceConfig(device=client, threads=3),
        server=DeviceConfig(device=server, threads=2),
    )
    assert needs_of(config, has_gpus) == needs


def test_a_cluster_without_room_for_a_run_names_its_nodes() -> None:
    nodes = [
        {"NodeName": "one", "Resources": {"CPU": 2.0}},
        {"NodeName": "two", "Resources": {"CPU": 8.0, "GPU": 1.0}},
    ]
    assert lack_of_room(nodes, {"CPU": 4, "GPU": 0}) == lack_of_room(nodes, {"CPU": 8, "GPU": 1}) == ""
    assert lack_of_room(nodes, {"CPU": 4, "GPU": 2}) == (
        "no node of the Ray cluster has the 4 CPU and 2 GPU of a run; "
        "the nodes: one 2 CPU, 0 GPU; two 8 CPU, 1 GPU"
    )


def test_a_tracker_whose_record_would_stay_on_a_node_is_refused(folder: Path) -> None:
    tracked = toy.config(folder, tracking={"to": ["mlflow"], "mlflow_uri": "sqlite:///mlflow.db"})
    with pytest.raises(ConfigError, match=r"mlflow_uri must be an http address.*got 'sqlite:///mlflow.db'"):
        check_tracking(tracked)
    check_tracking(toy.config(folder, tracking={"to": ["mlflow"], "mlflow_uri": "https://192.0.2.1"}))


def on_node(config: RunConfig, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> tuple[str | None, bytes]:
    """What `run_on_node` returns on the node "one"."""
    context = SimpleNamespace(get_node_id=lambda: "one")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get_runtime_context=lambda: context))
    return run_on_node(json.dumps(as_dict(config)), "seed-0", origin, "splitfl compare")


def test_a_node_that_joined_later_and_differs_runs_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy.config(folder)
    files = files_of(config)
    origin = Origin(state=state(files) | {"peft": "0.0.1"}, files=files, checked={"two"})
    error, archive = on_node(config, origin, monkeypatch)
    assert error is not None
    assert archive == b""
    assert error.startswith(f"the Ray node {platform.node()} differs from the driver's: peft is ")


@pytest.mark.slow
@pytest.mark.parametrize("checked", ["one", "two"])
def test_a_node_returns_the_folder_of_a_run_with_the_drivers_command(
    checked: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = toy.config(folder)
    files = files_of(config)
    origin = Origin(state=state(files), files=files, checked={checked})
    error, archive = on_node(config, origin, monkeypatch)
    assert error is None
    unpack(archive, tmp_path / "seed-0")
    assert json.loads((tmp_path / "seed-0" / "environment.json").read_text())["command"] == "splitfl compare"
    assert finished(config, tmp_path / "seed-0") is not None
