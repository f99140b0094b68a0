"""A process of a Ray cluster that computes rounds of a run's clients.

It keeps nothing of a client between rounds: the client's state comes with the round, and is returned with
its end. Messages and replies cross as frames without codecs, which hold the same bits.
"""

import json
from dataclasses import dataclass

import safetensors.torch
import torch

from splitfl.cluster.ray_cluster import Origin
from splitfl.core.allocator import keep_freed_memory
from splitfl.core.errors import ConfigError
from splitfl.core.messages import CodecUse, Message, Reply
from splitfl.core.stored_state import state_bytes
from splitfl.methods.parts.method import ClientMethod, ClientRound
from splitfl.runtime.quiet import quiet
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from splitfl.setup.shared_clients import SharedClients
from splitfl.wire import Envelope, Refusal, decode, encode
from splitfl.wire.codec_meter import CodecMeter


@dataclass(frozen=True, kw_only=True)
class Computed:
    """A client's next message as a `frame`; at the end of its round none, but its `state`.

    `flops` are those of the step, `codecs` what the round measured of the adapters' codecs.
    """

    frame: bytes = b""
    state: bytes = b""
    flops: float
    codecs: tuple[CodecUse, ...] = ()


class ClientActor:
    """The clients of one process; Ray calls its methods one after another."""

    def prepare(self, settings: str, origin: Origin) -> None:
        """Reads the data, first of all. Raises ConfigError on a node that differs from the driver's."""
        if different := origin.difference_here():
            raise ConfigError(different)
        quiet()
        keep_freed_memory()
        experiment = Experiment.of(from_dict(json.loads(settings)))
        torch.set_num_threads(experiment.config.client.threads)
        self._clients = SharedClients(experiment)
        self._meter = CodecMeter()
        self._rounds: dict[int, tuple[ClientMethod, ClientRound]] = {}

    def initial(self, client: int) -> bytes:
        """The client's initial state."""
        return state_bytes(self._clients.method(client).state())

    def begin(self, client: int, round_index: int, state: bytes) -> Computed:
        """Begins a client's round from this state, the initial one if empty."""
        method = self._clients.method(client, self._meter)
        if state:
            method.restore(safetensors.torch.load(state))
        steps = method.round(round_index)
        self._rounds[client] = method, steps
        return _sent(client, next(steps), method)

    def answer(self, client: int, frame: bytes) -> Computed:
        """Continues a client's round with the reply to its last message."""
        reply = decode(frame)[0]
        assert not isinstance(reply, Refusal), "the driver handles refusals"
        method, steps = self._rounds[client]
        try:
            return _sent(client, steps.send(reply), method)
        except StopIteration:
            del self._rounds[client]
            state = state_bytes(method.state())
            return Computed(state=state, flops=method.take_flops(), codecs=self._meter.take())


def framed(client: int, message: Reply) -> bytes:
    """A message or reply between the driver and an actor."""
    return encode(message, Envelope(client=client, round=0, lap=0))


def _sent(client: int, message: Message, method: ClientMethod) -> Computed:
    return Computed(frame=framed(client, message), flops=method.take_flops())
