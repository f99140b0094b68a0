"""`hosl`: first order on the server, finite differences of the server's loss on the client.

HOSL (Aakriti et al., arXiv 2601.10940). Per step the client sends its hidden state at theta and at theta +-
mu u_p for P perturbations, 2 P + 1 in all; the server takes a step from the first and replies with the losses
of the others, 8 P bytes. The server has all directional derivatives, so a round has no upload; as in
`hybrid`, every client receives those of all clients at the start of the next round. Departures from the
paper, which has a single client: this replay, and perturbations of each client's own.
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
from splitfl.models.token_rows import unpack


@dataclass(frozen=True, kw_only=True)
class HoslSettings:
    """A client perturbs along `perturbations` directions a step, by `mu` per element.

    With `slices` it perturbs its own share of the adapted modules, another one in every round.
    """

    perturbations: int = 4
    mu: float = 1e-3
    slices: bool = False

    def __post_init__(self) -> None:
        at_least("method.perturbations", self.perturbations, 1)
        above("method.mu", self.mu, 0.0)


class HoslClient:
    """Runs the head forward 2 P + 1 times a step."""

    def __init__(self, zeroth_order: ZerothOrderClient, batches: Batches, steps: int, mu: float) -> None:
        self.zeroth_order = zeroth_order
        self._batches = batches
        self._steps = steps
        self._mu = mu
        self.take_flops = zeroth_order.take_flops
        self.state = zeroth_order.state
        self.restore = zeroth_order.restore

    def round(self, round_index: int) -> ClientRound:
        zeroth_order, head = self.zeroth_order, self.zeroth_order.piece
        zeroth_order.start_round((yield zeroth_order.begin(round_index, self._steps)), round_index)
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(head.model.device)
            context = head.context_of(batch.inputs)
            forward = hidden_of(batch, context)
            unperturbed = zeroth_order.evaluate(forward, batch.shape)
            both_sides = zeroth_order.evaluate_both_sides(forward, step, batch.shape)
            hidden = torch.stack([unperturbed, *both_sides])
            reply = yield Activation(ids_B=batch.ids_B, hidden=hidden, context=context, labels=batch.labels)
            zeroth_order.apply(derivatives_of(reply.values, self._mu) if isinstance(reply, Scalars) else None)


@dataclass(frozen=True, kw_only=True, eq=False)
class _StepWithLosses:
    step: BodyStep
    losses_P2: Tensor


class HoslServer:
    """Trains the body on each batch's first hidden state; replies with the losses (P, 2) of the others."""

    def __init__(self, body: ServerModel, scalar_log: ScalarLog, perturbations: int, mu: float) -> None:
        self._body = body
        self._scalar_log = scalar_log
        self._perturbations = perturbations
        self._mu = mu
        self._steps: dict[int, int] = {}

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return self._train_step(turn, message)
            case Begin():
                return self._scalar_log.answer(turn, message)
        raise unexpected("hosl", message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, _StepWithLosses) and reply is not None:
            derivatives_1P = derivatives_of(change.losses_P2, self._mu)[None]
            self._scalar_log.receive(turn.client, turn.lap - 1, derivatives_1P, reply.samples)
        self._body.commit(turn, change.step if change is not None else None)

    def end_round(self, round_index: int) -> None:
        self._body.end_round()
        self._scalar_log.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return {**self._scalar_log.tensors, **self._body.trained()}

    def state(self) -> State:
        return under("body", self._body.state()) | under("history", self._scalar_log.state())

    def restore(self, state: State) -> None:
        self._body.restore(part(state, "body"))
        self._scalar_log.restore(part(state, "history"))

    def _train_step(self, turn: Turn, message: Activation) -> ServerReply:
        assert message.hidden is not None
        assert message.labels is not None
        if len(message.hidden) != 2 * self._perturbations + 1:
            raise unexpected("hosl", message)
        device, mask = self._body.piece.model.device, message.context.get("mask")
        hidden_BTD, *both_sides = (unpack(hidden, mask).to(device) for hidden in message.hidden)
        step = self._body.compute(
            turn.position, hidden_BTD, message.context, message.labels, wants_hidden_grad=False
        )
        losses, flops = self._body.losses(turn.position, both_sides, message.context, message.labels)
        losses_P2 = torch.tensor(losses, dtype=torch.float32).view(self._perturbations, 2)
        return ServerReply(
            reply=Scalars(round=turn.round, values=losses_P2, steps=(1,)),
            flops=step.flops + flops,
            losses=(step.loss,),
            samples=len(message.ids_B),
            change=_StepWithLosses(step=step, losses_P2=losses_P2),
        )


def derivatives_of(losses_P2: Tensor, mu: float) -> Tensor:
    """The central differences (P,) of the losses (P, 2) at theta + mu u_p and theta - mu u_p."""
    above_P, below_P = losses_P2.to(torch.float64).unbind(1)
    return ((above_P - below_P) / (2 * mu)).to(torch.float32)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side."""
    own = config.method.of(HoslSettings)
    estimate = Estimate(perturbations=own.perturbations, mu=own.mu, derivative="central")
    settings = SlicedEstimate(estimate=estimate, slices=own.slices)
    zeroth_order = ZerothOrderClient.of(pieces.head(), batches, config, settings)
    return HoslClient(zeroth_order, batches, steps, own.mu)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side."""
    own = config.method.of(HoslSettings)
    scalar_log = ScalarLog.of(pieces.head(), config, own.perturbations, is_sliced=own.slices)
    return HoslServer(ServerModel.of(pieces.body(), config), scalar_log, own.perturbations, own.mu)


def refuse(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for a `method.mu` below the dtype's resolution, and for weight decay."""
    refuse_distance(config, config.method.of(HoslSettings).mu)


_HOSL = """@article{aakriti2026hosl,
  title = {{HOSL}: Hybrid-Order Split Learning for Memory-Constrained Edge Training},
  author = {Aakriti and Li, Zhe and Liang, Dandan and Huang, Chao and Li, Rui and Yang, Haibo},
  journal = {arXiv preprint arXiv:2601.10940},
  year = {2026}
}"""

SPEC = spec.MethodSpec(
    about="first order on the server, finite differences of its loss on the client: 2P+1 activations a step",
    bibtex=(_HOSL, LORA),
    client=client,
    server=server,
    signature=spec.Signature(begin=Scalars, step=((Activation, Scalars),), end=None),
    sends={"activation": spec.DIFFERENCES},
    labels="sent",
    activations="at each step, 2 P + 1 times",
    settings=HoslSettings,
    shared=spec.REPLAYED | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER,
    aggregators=spec.FACTORS | spec.SCALARS,
    holds=("head",),
    asynchronous=spec.REPLAYS,
    single_pass=spec.NOT_ONCE,
    summable=spec.NO_ADAPTERS,
    server_batch="replies with losses of each client's own perturbed activations",
    backpropagates=False,
    shardable=True,
    refusals=(refuse,),
)
