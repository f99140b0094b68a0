"""`hosl`: first order on the server, differences of the server's loss on the client.

HOSL (Aakriti et al., arXiv 2601.10940). Per step the client sends its hidden state at
theta and at theta +- mu u_p for P directions, 2 P + 1 of them; the server learns from the
first and answers with the losses of the others, 8 P bytes. Since it then knows every
slope, nothing goes up at the end of a round, and as in `hybrid` all clients hear of
everybody's when the next one begins. We depart from the paper, which has one client, in
this and in each client's directions being its own.
"""

# B batch, T tokens, D hidden, P perturbations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.config import RunConfig, above, at_least
from splitfl.core.messages import Activation, Begin, Message, Scalars
from splitfl.core.state import State, part, under
from splitfl.data.loader import Batches
from splitfl.methods.hybrid import hidden_of
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_trainer import unpack
from splitfl.methods.parts.method import (
    ClientMethod,
    ClientRound,
    Pieces,
    ServerMethod,
    ServerReply,
    Turn,
    unexpected,
)
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.scalar_log import ScalarLog
from splitfl.methods.parts.server_model import BodyStep, ServerModel
from splitfl.methods.parts.zeroth_order_client import (
    Estimate,
    SlicedEstimate,
    ZerothOrderClient,
    refuse_distance,
)


@dataclass(frozen=True, kw_only=True)
class HoslSettings:
    """A client moves along `perturbations` directions a step, over a distance of `mu` an element.

    With `slices` these are of its own share of the adapted modules, another in every round.
    """

    perturbations: int = 4
    mu: float = 1e-3
    slices: bool = False

    def __post_init__(self) -> None:
        at_least("method.perturbations", self.perturbations, 1)
        above("method.mu", self.mu, 0.0)


class HoslClient:
    """Runs the head 2 P + 1 times a step, forward only."""

    def __init__(self, walker: ZerothOrderClient, batches: Batches, steps: int, mu: float) -> None:
        self.walker = walker
        self._batches = batches
        self._steps = steps
        self._mu = mu
        self.take_flops = walker.take_flops
        self.state = walker.state
        self.restore = walker.restore

    def round(self, round_index: int) -> ClientRound:
        walker, head = self.walker, self.walker.piece
        walker.enter((yield walker.begin(round_index, self._steps)), round_index)
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(head.model.device)
            context = head.context_of(batch.inputs)
            forward = hidden_of(batch, context)
            here = walker.run(forward, batch.shape_BT)
            around = walker.around(forward, step, batch.shape_BT)
            hidden = torch.stack([here, *around])
            reply = yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels)
            walker.follow(slopes(reply.values, self._mu) if isinstance(reply, Scalars) else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Learnt:
    step: BodyStep
    losses_P2: Tensor


class HoslServer:
    """Learns from each batch's first hidden state and says the loss of all the others."""

    def __init__(self, body: ServerModel, history: ScalarLog, perturbations: int, mu: float) -> None:
        self._body = body
        self._history = history
        self._perturbations = perturbations
        self._mu = mu
        self._steps: dict[int, int] = {}

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return self._learn(ticket, message)
            case Begin():
                return self._history.answer(ticket, message)
        raise unexpected("hosl", message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        learnt = outcome.change if outcome is not None else None
        if isinstance(learnt, _Learnt) and outcome is not None:
            slopes_1P = slopes(learnt.losses_P2, self._mu)[None]
            self._history.receive(ticket.client, ticket.lap - 1, slopes_1P, outcome.samples)
        self._body.commit(ticket, learnt.step if learnt is not None else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._history.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return {**self._history.tensors, **self._body.trained()}

    def state(self) -> State:
        return under("body", self._body.state()) | under("history", self._history.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._history.restore(part(state, "history"))

    def _learn(self, ticket: Turn, message: Activation) -> ServerReply:
        assert message.hidden is not None
        assert message.labels is not None
        if len(message.hidden) != 2 * self._perturbations + 1:
            raise unexpected("hosl", message)
        device, mask = self._body.piece.model.device, message.context.get("mask")
        here, *around = (unpack(hidden, mask).to(device) for hidden in message.hidden)
        step = self._body.compute(
            ticket.position, here, message.context, message.labels, wants_hidden_grad=False
        )
        losses, flops = self._body.losses(ticket.position, around, message.context, message.labels)
        losses_P2 = torch.tensor(losses, dtype=torch.float32).view(self._perturbations, 2)
        return ServerReply(
            reply=Scalars(round=ticket.round, values=losses_P2, steps=(1,)),
            flops=step.flops + flops,
            losses=(step.loss,),
            samples=len(message.ids_B),
            change=_Learnt(step=step, losses_P2=losses_P2),
        )


def slopes(losses_P2: Tensor, mu: float) -> Tensor:
    """(P,): the slopes that the losses at theta + mu u_p and theta - mu u_p stand for."""
    above_P, below_P = losses_P2.to(torch.float64).unbind(1)
    return ((above_P - below_P) / (2 * mu)).to(torch.float32)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side."""
    own = config.method.of(HoslSettings)
    estimate = Estimate(perturbations=own.perturbations, mu=own.mu, derivative="central")
    settings = SlicedEstimate(estimate=estimate, slices=own.slices)
    walker = ZerothOrderClient.of(pieces.head(), batches, config, settings)
    return HoslClient(walker, batches, steps, own.mu)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side."""
    own = config.method.of(HoslSettings)
    history = ScalarLog.of(pieces.head(), config, own.perturbations, is_sliced=own.slices)
    return HoslServer(ServerModel.of(pieces.body(), config), history, own.perturbations, own.mu)


def refuse(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for moves that vanish in rounding, and for what slopes cannot have."""
    refuse_distance(config, config.method.of(HoslSettings).mu)


_HOSL = """@article{aakriti2026hosl,
  title = {{HOSL}: Hybrid-Order Split Learning for Memory-Constrained Edge Training},
  author = {Aakriti and Li, Zhe and Liang, Dandan and Huang, Chao and Li, Rui and Yang, Haibo},
  journal = {arXiv preprint arXiv:2601.10940},
  year = {2026}
}"""

SPEC = spec.MethodSpec(
    about="first order on the server, differences of its loss on the client: 2P+1 activations a step",
    bibtex=(_HOSL, LORA),
    client=client,
    server=server,
    signature=spec.Signature(begin=Scalars, step=((Activation, Scalars),), end=None),
    sends={"activation": spec.DIFFERENCES},
    settings=HoslSettings,
    shared=spec.REPLAYED | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER,
    aggregators=spec.FACTORS | spec.SCALARS,
    holds=("head",),
    asynchronous=spec.REPLAYS,
    single_pass=spec.NOT_ONCE,
    summable=spec.NO_ADAPTERS,
    backpropagates=False,
    refusals=(refuse,),
)
