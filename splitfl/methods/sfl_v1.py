"""`sfl-v1`: as `sfl-v2`, with one body per client on the server, averaged once a round.

SplitFed's SFLV1 (Thapa et al., AAAI'22, Algorithms 1 and 2). The bodies share the frozen weights and use the
clients' aggregator: tensors that it freezes in a round are frozen in the bodies too, so that the mean is
exact. Each body's AdamW keeps its own moments.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Activation, Adapter, Message
from splitfl.core.state import State, listed, number_in, numbered, part, under, whole
from splitfl.federation.aggregators import Aggregator, aggregator, weighted_mean
from splitfl.methods import sfl_v2
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_adapters import ClientAdapters
from splitfl.methods.parts.method import Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import LORA, SPLITFED
from splitfl.methods.parts.server_model import BodyStep, ServerModel, answer_activation
from splitfl.models.cut import replica


class SflV1Server:
    """Trains one body per client; averages bodies and client adapters. The client is that of `sfl-v2`."""

    def __init__(
        self, bodies: Sequence[ServerModel], client_adapters: ClientAdapters, rule: Aggregator
    ) -> None:
        self._bodies = bodies
        self._rule = rule
        self._client_adapters = client_adapters
        self._samples = [0] * len(bodies)
        self._set_trainable(0)

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return answer_activation(self._bodies[turn.client], turn, message)
        return self._client_adapters.answer(turn, message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Adapter):
            self._client_adapters.receive(change)
        step = change if isinstance(change, BodyStep) else None
        if reply is not None and step is not None:
            self._samples[turn.client] += reply.samples
        for client, body in enumerate(self._bodies):  # every body counts positions
            body.commit(turn, step if client == turn.client else None)

    def end_round(self, round_index: int) -> None:
        for body in self._bodies:
            body.end_round()
        self._client_adapters.end_round()
        updates = [
            Adapter(version=round_index, samples=samples, tensors=self._trained_tensors(body, round_index))
            for body, samples in zip(self._bodies, self._samples, strict=True)
            if samples
        ]
        mean = weighted_mean(updates)
        for body in self._bodies:
            body.load(mean)
        self._samples = [0] * len(self._bodies)
        self._set_trainable(round_index + 1)

    def trained(self) -> Mapping[str, Tensor]:
        return self._client_adapters.tensors | self._bodies[0].trained()

    def state(self) -> State:
        bodies = listed([body.state() for body in self._bodies])
        held = under("body", bodies) | under("heads", self._client_adapters.state())
        return held | {"round": whole(self._round)}

    def restore(self, state: State) -> None:
        for at, body_state in numbered(part(state, "body")).items():
            self._bodies[at].restore(body_state)
        self._client_adapters.restore(part(state, "heads"))
        self._samples = [0] * len(self._bodies)
        self._set_trainable(number_in(state, "round"))

    def _trained_tensors(self, body: ServerModel, round_index: int) -> dict[str, Tensor]:
        return {n: value for n, value in body.trained().items() if self._rule.trains(n, round_index)}

    def _set_trainable(self, round_index: int) -> None:
        self._round = round_index
        for body in self._bodies:
            body.train_only(lambda name: self._rule.trains(name, round_index))


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with one body per client."""
    body, clients = pieces.body(), range(config.federation.clients)
    bodies = [ServerModel.of(replica(body), config) for _ in clients]
    rule = aggregator(config.federation.aggregator)
    return SflV1Server(bodies, ClientAdapters.of(config, pieces.head), rule)


SPEC = dataclasses.replace(
    sfl_v2.SPEC,
    about="as sfl-v2, with one body per client on the server, averaged once a round",
    bibtex=(SPLITFED, LORA),
    server=server,
    shared=spec.HEAD | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER | spec.CLIENT_RANKS,
    aggregators=spec.FACTORS,
    server_batch="has a body for each client on the server",
    asynchronous=(
        "the clients' bodies are averaged when a round ends, so all clients must be in the same round"
    ),
    shardable="keeps one body per client",
    local_update=None,
    refusals=(),
)
