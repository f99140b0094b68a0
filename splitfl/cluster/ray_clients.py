"""Clients of a run in one process whose rounds are computed by processes ("actors") of a Ray cluster.

The server and the order of virtual time stay in this process; so does each client's state between rounds.
What a client computes between two messages does not depend on the other clients, so actors compute it at the
same time, and the server takes the messages in the order of their turns. A round whose actor is lost is
computed again by another one, from the same state and the same replies: the bits are those of one process.
"""

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import safetensors.torch

from splitfl.cluster.actors import Actor, ActorLost, Actors, started
from splitfl.cluster.client_actor import Computed, framed
from splitfl.cluster.node_state import files_of
from splitfl.cluster.ray_cluster import (
    LOCAL,
    check_nodes,
    connected,
    gpus_of,
    imported,
    lack_of_room,
    nodes,
)
from splitfl.config import RunConfig, one_of
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Message
from splitfl.core.state import State
from splitfl.core.stored_state import state_bytes
from splitfl.federation.staleness import at_own_pace
from splitfl.methods.parts.method import ClientMethod, ClientRound
from splitfl.runtime.simulated_clients import OpenClients, Step
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict
from splitfl.setup.links import cell
from splitfl.wire import decode
from splitfl.wire.codec_meter import CodecMeter

_STEPS_PER_ACTOR: Final = 4
"""Steps that are under way at a time: enough for an actor to have work while others' replies are awaited."""


class RayClients:
    """See SimulatedClients."""

    def __init__(self, experiment: Experiment, actors: Actors) -> None:
        self._experiment = experiment
        self._actors = actors
        self._make_rows = experiment.row_maker()
        self._threads = ThreadPoolExecutor(_STEPS_PER_ACTOR * len(actors))

    def method(self, client: int, meter: CodecMeter) -> ClientMethod:
        self._experiment.check_client(self._experiment.batches(client, self._make_rows))
        return RayMethod(client, self._actors, meter)

    def start(self, step: Step) -> Step:
        return self._threads.submit(step).result

    def close(self) -> None:
        """Ends the actors, and with them all steps under way."""
        self._actors.close()
        self._threads.shutdown(cancel_futures=True)


class RayMethod:
    """A client's method that actors compute; between rounds its state is kept here."""

    def __init__(self, client: int, actors: Actors, meter: CodecMeter) -> None:
        self._client = client
        self._actors = actors
        self._meter = meter
        self._state = b""  # empty: the initial one
        self._flops = 0.0

    def round(self, round_index: int) -> ClientRound:
        replies: list[bytes] = []
        actor: Actor | None = None
        try:
            while True:
                actor, computed = self._computed(actor, round_index, replies)
                self._flops += computed.flops
                if not computed.frame:
                    self._state = computed.state
                    self._actors.measured(self._meter, computed.codecs)
                    return
                message = decode(computed.frame)[0]
                assert isinstance(message, Message)
                replies.append(framed(self._client, (yield message)))
        finally:
            if actor is not None:
                self._actors.release(actor)

    def take_flops(self) -> float:
        spent, self._flops = self._flops, 0.0
        return spent

    def state(self) -> State:
        while not self._state:
            actor = self._actors.take()
            try:
                self._state = self._actors.call(actor, "initial", self._client)
            except ActorLost:
                continue
            self._actors.release(actor)
        return safetensors.torch.load(self._state)

    def restore(self, state: State) -> None:
        self._state = state_bytes(state)

    def _computed(
        self, actor: Actor | None, round_index: int, replies: list[bytes]
    ) -> tuple[Actor, Computed]:
        """The client's next step after these replies; without an actor, all of the round by another one."""
        client, call = self._client, self._actors.call
        while True:
            try:
                if actor is not None:
                    return actor, call(actor, "answer", client, replies[-1])
                actor = self._actors.take()
                computed = call(actor, "begin", client, round_index, self._state)
                for reply in replies:
                    computed = call(actor, "answer", client, reply)
                return actor, computed
            except ActorLost:
                actor = None


def clients_on(on: str) -> OpenClients:
    """The clients of `ray[:ADDRESS]`; raises ConfigError for another name or address, or without Ray."""
    name, _, address = on.partition(":")
    one_of("on", name, ("ray",))
    ray = imported(address or LOCAL)
    return partial(_ray_clients, ray, address or LOCAL)


def check_simulated(config: RunConfig) -> None:
    """Raises ConfigError for a run whose clients cannot compute at the same time in other processes."""
    if at_own_pace(config.federation):
        raise ConfigError(
            "federation.schedule must be 'synchronous' or 'deadline' with --on ray, since others have the "
            f"clients compute one after another in virtual time; got {config.federation.schedule!r}"
        )
    if cell(config) is not None:
        raise ConfigError(
            "with --on ray each client needs a link of its own: in a cell, when a client may send depends on "
            f"what the others have sent; got link.scenario {config.link.scenario!r}"
        )
    if config.auto.speed != "declared":
        raise ConfigError(
            f"auto.speed must be 'declared' with --on ray, where a step also waits; got {config.auto.speed!r}"
        )


@contextmanager
def _ray_clients(ray: Any, address: str, experiment: Experiment) -> Iterator[RayClients]:
    check_simulated(experiment.config)
    files = files_of(experiment.config)
    with connected(ray, address):
        found = nodes(ray)
        need = needs_of_clients(experiment.config, any(node["Resources"].get("GPU") for node in found))
        if lack := lack_of_room(found, need):
            raise ConfigError(lack)
        origin = check_nodes(ray, found, files)
        count = sum(_room(node["Resources"], need) for node in found)
        actors = started(ray, count, need, json.dumps(as_dict(experiment.config)), origin)
        clients = RayClients(experiment, actors)
        try:
            yield clients
        finally:
            clients.close()


def needs_of_clients(config: RunConfig, has_gpus: bool) -> dict[str, int]:
    """The CPUs and GPUs of an actor."""
    return {"CPU": config.client.threads, "GPU": gpus_of({config.client.device}, has_gpus)}


def _room(resources: Mapping[str, float], need: Mapping[str, int]) -> int:
    """The number of actors that fit on a node."""
    return min(int(resources.get(name, 0) // each) for name, each in need.items() if each)
