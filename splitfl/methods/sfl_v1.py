"""`sfl-v1`: as `sfl-v2`, with a body for each client on the server, averaged once a round.

SplitFed's first version (Thapa et al., AAAI'22, Algorithms 1 and 2). The bodies share the
frozen weights. They follow the heads' rule of aggregation: a tensor that the rule keeps
still in a round is kept still in the bodies too, so that their mean is what it says.
Each body's AdamW goes on from its own moments.
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
    """Runs each client's own body; averages bodies and heads. The client is that of `sfl-v2`."""

    def __init__(self, bodies: Sequence[ServerModel], heads: ClientAdapters, rule: Aggregator) -> None:
        self._bodies = bodies
        self._rule = rule
        self._heads = heads
        self._samples = [0] * len(bodies)
        self._free(0)

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return answer_activation(self._bodies[ticket.client], ticket, message)
        return self._heads.answer(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        step = self._heads.take(outcome)
        if outcome is not None and isinstance(step, BodyStep):
            self._samples[ticket.client] += outcome.samples
        for client, body in enumerate(self._bodies):  # all of them count positions
            body.commit(ticket, step if client == ticket.client else None)

    def end_round(self, round_index: int) -> None:
        for body in self._bodies:
            body.end_round()
        self._heads.end_round()
        updates = [
            Adapter(version=round_index, samples=samples, tensors=self._learned(body, round_index))
            for body, samples in zip(self._bodies, self._samples, strict=True)
            if samples
        ]
        mean = weighted_mean(updates)
        for body in self._bodies:
            body.become(mean)
        self._samples = [0] * len(self._bodies)
        self._free(round_index + 1)

    def trained(self) -> Mapping[str, Tensor]:
        return self._heads.tensors | self._bodies[0].trained()

    def state(self) -> State:
        bodies = listed([body.state() for body in self._bodies])
        held = under("body", bodies) | under("heads", self._heads.state())
        return held | {"round": whole(self._round)}

    def restore(self, state: State) -> None:
        for at, its in numbered(part(state, "body")).items():
            self._bodies[at].restore(its)
        self._heads.restore(part(state, "heads"))
        self._samples = [0] * len(self._bodies)
        self._free(number_in(state, "round"))

    def _learned(self, body: ServerModel, round_index: int) -> dict[str, Tensor]:
        return {n: value for n, value in body.trained().items() if self._rule.trains(n, round_index)}

    def _free(self, round_index: int) -> None:
        self._round = round_index
        for body in self._bodies:
            body.train_only(lambda name: self._rule.trains(name, round_index))


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with a body for each client."""
    body, clients = pieces.body(), range(config.federation.clients)
    bodies = [ServerModel.of(replica(body), config) for _ in clients]
    rule = aggregator(config.federation.aggregator)
    return SflV1Server(bodies, ClientAdapters.of(config, pieces.head), rule)


SPEC = dataclasses.replace(
    sfl_v2.SPEC,
    about="as sfl-v2, with a body for each client on the server, averaged once a round",
    bibtex=(SPLITFED, LORA),
    server=server,
    shared=spec.HEAD | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER | spec.CLIENT_RANKS,
    aggregators=spec.FACTORS,
    asynchronous=(
        "the clients' bodies become one when a round ends, which must find none of them in the middle"
    ),
    local_update=None,
    refusals=(),
)
