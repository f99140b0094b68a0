"""Clients that other processes compute have the bits of those in one, also if processes are lost."""

import json
import sys
import threading
from collections.abc import Callable
from contextlib import closing, nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import splitfl
from splitfl.cluster.actors import Actors
from splitfl.cluster.client_actor import ClientActor
from splitfl.cluster.ray_clients import RayClients, check_simulated, clients_on, needs_of_clients
from splitfl.cluster.ray_cluster import Origin
from splitfl.config import DeviceConfig, RunConfig
from splitfl.controller.dry_run import controller_for
from splitfl.core.errors import ConfigError, PeerLost
from splitfl.runtime.run import run, run_in_one_process
from splitfl.runtime.screen import Silent
from splitfl.runtime.simulated_clients import OpenClients, in_this_thread
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict
from tests.splitfl import toy

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

place = toy.place(is_base=True, rows=60)


class LocalRay:
    """What the driver uses of Ray, with actors of this process."""

    class RayError(Exception):
        """An actor has ended."""

    class RayTaskError(RayError):
        """A method of an actor raised the `cause`."""

        def __init__(self, cause: Exception) -> None:
            self.cause = cause

    exceptions = SimpleNamespace(RayError=RayError, RayTaskError=RayTaskError)

    def wait(self, answers: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        return answers, []

    def get(self, answer: Callable[[], Any], timeout: float) -> Any:
        return answer()

    def kill(self, handle: "LocalHandle") -> None:
        handle.calls_left = 0


class LocalHandle:
    """An actor of this process that ends before a call.

    Here actors share the global generator of torch, from which modules are initialised: one computes at
    a time.
    """

    lock = threading.Lock()

    def __init__(self, actor: ClientActor, calls: int) -> None:
        self._actor = actor
        self.calls_left = calls

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Callable[[], Any]:
            if not self.calls_left:
                raise LocalRay.RayError
            self.calls_left -= 1
            try:
                with self.lock:
                    value = getattr(self._actor, name)(*arguments)
            except Exception as error:
                raise LocalRay.RayTaskError(error) from None
            return lambda: value

        return SimpleNamespace(remote=remote)


def clients_of(calls: list[int], monkeypatch: pytest.MonkeyPatch) -> OpenClients:
    """Clients computed by actors that end after so many calls each."""
    node = SimpleNamespace(get_node_id=lambda: "here")
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(get_runtime_context=lambda: node))

    def opened(experiment: Experiment) -> Any:
        origin = Origin(state={}, files=set(), checked={"here"})
        actors = [ClientActor() for _ in calls]
        for actor in actors:
            actor.prepare(json.dumps(as_dict(experiment.config)), origin)
        handles = [LocalHandle(actor, count) for actor, count in zip(actors, calls, strict=True)]
        return closing(RayClients(experiment, Actors(LocalRay(), handles)))

    return opened


def config(place: Path, **tables: Any) -> RunConfig:
    federation = {"clients": 4, "rounds": 2, "local_steps": 2, **tables.pop("federation", {})}
    return toy.config(
        place, federation=federation, fault_tolerance={"clients_per_round": 2}, **{"train": {}, **tables}
    )


def finished(
    settings: RunConfig, folder: Path, open_clients: OpenClients = in_this_thread
) -> list[dict[str, Any]]:
    """The events of a run in this folder, without wall times and what the process itself measures."""
    folder.mkdir()
    run_in_one_process(
        Experiment.of(settings),
        lambda: folder,
        Silent(),
        controller_for=controller_for,
        open_clients=open_clients,
    )
    rows = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in row.items() if not key.startswith("wall")} for row in rows]


MORE = [pytest.mark.slow]


@pytest.mark.parametrize(
    "tables",
    [
        {"codec": {"activation": "int8", "gradient": "int8"}},
        pytest.param({"codec": {"adapter_up": "int8", "error_feedback": True}}, marks=MORE),
        pytest.param({"codec": {"activation": "delta+int8"}}, marks=MORE),
        pytest.param({"method": {"name": "fedlora"}}, marks=MORE),
        pytest.param({"method": {"name": "hybrid"}}, marks=MORE),
        pytest.param({"method": {"name": "spry"}}, marks=MORE),
        pytest.param({"method": {"name": "decomfl"}}, marks=MORE),
        pytest.param({"method": {"name": "fsl-sage"}}, marks=MORE),
        pytest.param(
            {"link": {"up": {"rate_bps": 1e6, "loss_rate": 0.2}}, "erasure": {"activation": "zero"}},
            marks=MORE,
        ),
        pytest.param({"federation": {"schedule": "deadline", "deadline_s": 0.5}}, marks=MORE),
    ],
)
def test_clients_of_actors_that_are_lost_have_the_bits_of_one_process(
    tables: dict[str, Any], place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = config(place, **tables)
    whole = finished(settings, tmp_path / "whole")
    lossy = clients_of([3, 7, 10_000], monkeypatch)
    assert finished(settings, tmp_path / "actors", lossy) == whole
    for part in ("adapter", "checkpoint"):
        files = [path for path in (tmp_path / "whole" / part).rglob("*.safetensors") if path.is_file()]
        for file in files:
            assert_same(file, tmp_path / "actors" / file.relative_to(tmp_path / "whole"))


def assert_same(one: Path, other: Path) -> None:
    """The same tensors in two files."""
    first, second = load_file(one), load_file(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_a_run_ends_if_all_actors_are_lost(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PeerLost, match="all processes of the Ray cluster that computed clients were lost"):
        finished(config(place), tmp_path / "run", clients_of([2, 3], monkeypatch))


@pytest.mark.parametrize(
    ("tables", "match"),
    [
        ({"federation": {"schedule": "anarchic"}}, "must be 'synchronous' or 'deadline' .*got 'anarchic'"),
        (
            {"link": {"scenario": "urban-micro"}},
            "a link of its own: in a cell.*got link.scenario 'urban-micro'",
        ),
        (
            {
                "auto": {
                    "every": 1,
                    "budget": "bytes",
                    "limit": 1e6,
                    "codecs": ["none", "int8"],
                    "speed": "measured",
                }
            },
            "auto.speed must be 'declared'",
        ),
    ],
)
def test_runs_in_which_clients_wait_for_each_other_are_refused(
    tables: dict[str, Any], match: str, place: Path
) -> None:
    with pytest.raises(ConfigError, match=match):
        check_simulated(toy.config(place, **tables))


def test_only_the_clients_of_the_in_process_transport_are_simulated(place: Path, tmp_path: Path) -> None:
    experiment = Experiment.of(toy.config(place, transport={"name": "rpc"}))
    with pytest.raises(ConfigError, match=r"transport.name must be 'inproc' with clients .*, got 'rpc'"):
        run(
            experiment,
            lambda: tmp_path,
            Silent(),
            controller_for=controller_for,
            start_clients=lambda address, folder: pytest.fail("clients were started"),
            open_clients=lambda experiment: nullcontext(),  # type: ignore[arg-type, return-value]
        )


@pytest.mark.parametrize(
    ("on", "reason"),
    [
        ("processes", "unknown on 'processes'.*have ray"),
        ("ray:gpu", "the address of a Ray cluster, unless auto, must be HOST:PORT, got 'gpu'"),
        ("ray", r"--on ray needs Ray: pip install 'splitfl\[ray\]'"),
    ],
)
def test_a_backend_that_clients_cannot_be_on_is_refused(
    on: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    with pytest.raises(ConfigError, match=reason):
        clients_on(on)
    with pytest.raises(ConfigError, match=reason):
        splitfl.run({}, on=on)


def test_an_actor_needs_the_threads_and_the_device_of_the_clients() -> None:
    settings = RunConfig(client=DeviceConfig(device="auto", threads=3))
    assert needs_of_clients(settings, has_gpus=True) == {"CPU": 3, "GPU": 1}
    assert needs_of_clients(settings, has_gpus=False) == {"CPU": 3, "GPU": 0}
