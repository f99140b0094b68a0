"""`hybrid`: Hybrid LoRA, first order on the server and no backpropagation on the client.

HO-SFL (Chen et al., ICML'26, arXiv 2603.14773) with low-rank adapters on both sides. Per step the client
uploads one activation z = f(x; theta), receives its gradient lambda, and computes the directional derivatives
v_p = <lambda, f(x; theta + mu u_p) - z> / mu. Per round it uploads its S * P scalars and receives those of
all clients, weighted by samples, at the start of the next round; adapters are sent only where they are fewer
numbers. Departure from the paper: each client has its own perturbations, so that the mean over K clients is
over K times as many.

Lambda enters only this product. Quantising it changes the scalars by about as much, relatively, as lambda
itself, which for `codec.gradient = "int4"` is small against the estimator's noise: mean squared errors of a
few percent against (d + 1) / P, for d trained parameters.
"""

# B batch, T tokens, D hidden, S steps of a round, P perturbations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Activation, Gradient, Message, Reply, Scalars
from splitfl.core.state import State, part, under
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.forward_mode import Function
from splitfl.methods.parts.joint_step import answer_activations
from splitfl.methods.parts.local_update import LocalParts, LocalUpdate, LocalUpdateSpec, local_steps
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, perturbed_parameters, values_of
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.scalar_log import ScalarLog
from splitfl.methods.parts.server_model import BodyStep, ServerModel, answer_activation
from splitfl.methods.parts.zeroth_order_client import SlicedEstimate, ZerothOrderClient, refuse_estimate
from splitfl.models.token_rows import pack


class ZerothOrderUpdate:
    """One zeroth-order step of the head from the gradient at the cut, with forward passes only."""

    upload_interval = 1

    def __init__(
        self,
        zeroth_order: ZerothOrderClient,
        perturbed: PerturbedParameters | None = None,
        trainer: ClientTrainer | None = None,
    ) -> None:
        """A controlled client gives `perturbed`, to set its rank, and `trainer`, which counts the FLOPs."""
        self._zeroth_order = zeroth_order
        self._perturbed = perturbed
        self._trainer = trainer
        self._sent: tuple[Function, Tensor, torch.Size] | None = None

    def begin(self, round_index: int, rank: int) -> None:
        assert self._perturbed is not None
        self._perturbed.rank = rank
        self._zeroth_order.mark_round_start(round_index)

    def forward(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        function = hidden_of(batch, context)
        hidden = self._zeroth_order.evaluate(function, batch.shape)
        self._sent = function, hidden, batch.shape
        return hidden

    def on_reply(self, reply: Reply | None, context: Mapping[str, Tensor]) -> bool:
        assert self._sent is not None
        function, hidden, shape = self._sent
        if isinstance(reply, Gradient):
            self._zeroth_order.step(function, reply.grad.to(hidden.device), hidden, shape)
        else:  # if it is lost, this step alone is skipped
            self._zeroth_order.apply(None)
        if self._trainer is not None:
            self._trainer.flops += self._zeroth_order.take_flops()
        return isinstance(reply, Gradient)


class HybridClient:
    """Trains the head with forward passes only, from the gradient at the cut."""

    def __init__(self, zeroth_order: ZerothOrderClient, batches: Batches, steps: int) -> None:
        self.zeroth_order = zeroth_order
        self._update = ZerothOrderUpdate(zeroth_order)
        self._batches = batches
        self._steps = steps
        self.take_flops = zeroth_order.take_flops
        self.state = zeroth_order.state
        self.restore = zeroth_order.restore

    def round(self, round_index: int) -> ClientRound:
        zeroth_order, steps = self.zeroth_order, self._steps
        zeroth_order.start_round((yield zeroth_order.begin(round_index, steps + 1)), round_index)
        samples = yield from local_steps(self._update, zeroth_order.piece, self._batches, steps, round_index)
        yield zeroth_order.upload(round_index, samples)


class HybridServer:
    """Trains the body on the activations of all clients in turn; logs the scalars that update the heads."""

    def __init__(self, body: ServerModel, scalar_log: ScalarLog) -> None:
        self._body = body
        self._scalar_log = scalar_log

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return answer_activation(self._body, turn, message)
        return self._scalar_log.answer(turn, message)

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Activation]) -> list[ServerReply]:
        return answer_activations(self._body, turns, messages)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        change = reply.change if reply is not None else None
        if isinstance(change, Scalars):
            self._scalar_log.receive(turn.client, 0, change.values, change.samples)
        self._body.commit(turn, change if isinstance(change, BodyStep) else None)

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


def hidden_of(batch: Batch, context: Mapping[str, Tensor]) -> Function:
    """The hidden state (N, D) of the batch's real tokens at the cut, as a function of the head."""

    def forward(head: Callable[..., Any]) -> Tensor:
        return pack(head(batch.inputs, {}), context.get("mask"))

    return forward


def local_update(parts: LocalParts) -> LocalUpdate:
    """For a controlled client, which uploads its head: other methods have no scalars to replay."""
    own = parts.config.method.of(SlicedEstimate)
    perturbed = perturbed_parameters(values_of(parts.head), parts.config, parts.head_lr, is_sliced=own.slices)
    zeroth_order = ZerothOrderClient(parts.head, parts.client, own.estimate, perturbed)
    return ZerothOrderUpdate(zeroth_order, perturbed, parts.trainer)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side."""
    settings = config.method.of(SlicedEstimate)
    zeroth_order = ZerothOrderClient.of(pieces.head(), batches, config, settings)
    return HybridClient(zeroth_order, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side."""
    own = config.method.of(SlicedEstimate)
    scalar_log = ScalarLog.of(pieces.head(), config, own.estimate.perturbations, is_sliced=own.slices)
    return HybridServer(ServerModel.of(pieces.body(), config), scalar_log)


_HOSFL = """@article{chen2026hosfl,
  title = {{HO-SFL}: Hybrid-Order Split Federated Learning with Backprop-Free Clients and
    Dimension-Free Aggregation},
  author = {Chen, Qiyuan and Chen, Xianhao and Wu, Xian and Wang, Yi},
  journal = {arXiv preprint arXiv:2603.14773},
  year = {2026}
}"""

SPEC = spec.MethodSpec(
    about="Hybrid LoRA: first order on the server, forward passes on the client, scalars in place of weights",
    bibtex=(_HOSFL, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_scalars((Activation, Gradient)),
    sends={"activation": spec.ANY_LOSS, "gradient": spec.ANY_LOSS},
    labels="sent",
    settings=SlicedEstimate,
    shared=spec.REPLAYED | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER,
    aggregators=spec.FACTORS | spec.SCALARS,
    holds=("head",),
    asynchronous=spec.REPLAYS,
    single_pass=spec.NOT_ONCE,
    summable=spec.NO_ADAPTERS,
    server_batch=True,
    backpropagates=False,
    shardable=True,
    local_update=LocalUpdateSpec(make=local_update, awaits_gradient=True),
    refusals=(refuse_estimate,),
)
