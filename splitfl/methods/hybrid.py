"""`hybrid`: Hybrid LoRA, first order on the server and no backpropagation on the client.

HO-SFL (Chen et al., ICML'26, arXiv 2603.14773) with low-rank adapters on both sides. Per
step one activation z = f(x; theta) goes up and its gradient lambda comes down; the client
finds v_p = <lambda, f(x; theta + mu u_p) - z> / mu. Per round it sends its S * P scalars
and hears everybody's, weighed by their samples, when the next one begins; adapters never
travel while scalars are fewer. We depart from the paper in one thing: directions are each
client's own, which makes K clients K times as many directions for the mean.

Lambda is in nothing but this product. Rounding it moves the scalars by about as much as it moves lambda
itself, which for `codec.gradient = "int4"` is little beside the noise of few directions: mean square errors
of some percent against (d + 1) / P, for d trained parameters.
"""

# B batch, T tokens, D hidden, S steps of a round, P perturbations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Activation, Gradient, Message, Reply
from splitfl.core.state import State, part, under
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_trainer import ClientTrainer, pack
from splitfl.methods.parts.forward_mode import Function
from splitfl.methods.parts.local_update import LocalParts, LocalUpdate, LocalUpdateSpec, local_steps
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.perturbed_parameters import PerturbedParameters, values_of, walk
from splitfl.methods.parts.references import LORA
from splitfl.methods.parts.scalar_log import ScalarLog
from splitfl.methods.parts.server_model import ServerModel, answer_activation
from splitfl.methods.parts.zeroth_order_client import SlicedEstimate, ZerothOrderClient, refuse_estimate


class ZerothOrderUpdate:
    """Forward passes alone: one step along random directions by the gradient that comes back."""

    upload_interval = 1

    def __init__(
        self,
        walker: ZerothOrderClient,
        walk: PerturbedParameters | None = None,
        trainer: ClientTrainer | None = None,
    ) -> None:
        """A controlled client says by `walk` what the walker moves, and by `trainer` who counts the FLOPs."""
        self._walker = walker
        self._walk = walk
        self._trainer = trainer
        self._sent: tuple[Function, Tensor, torch.Size] | None = None

    def begin(self, round_index: int, rank: int) -> None:
        assert self._walk is not None
        self._walk.rank = rank
        self._walker.start(round_index)

    def forward(self, batch: Batch, context: Mapping[str, Tensor], round_index: int, step: int) -> Tensor:
        function = hidden_of(batch, context)
        hidden = self._walker.run(function, batch.shape_BT)
        self._sent = function, hidden, batch.shape_BT
        return hidden

    def on_reply(self, reply: Reply | None, context: Mapping[str, Tensor]) -> bool:
        assert self._sent is not None
        function, hidden, shape_BT = self._sent
        if isinstance(reply, Gradient):
            self._walker.learn(function, reply.grad.to(hidden.device), hidden, shape_BT)
        else:  # a lost one costs this step, no more
            self._walker.follow(None)
        if self._trainer is not None:
            self._trainer.flops += self._walker.take_flops()
        return isinstance(reply, Gradient)


class HybridClient:
    """Runs the head forward only; learns from the gradient that comes back and its own directions."""

    def __init__(self, walker: ZerothOrderClient, batches: Batches, steps: int) -> None:
        self.walker = walker
        self._update = ZerothOrderUpdate(walker)
        self._batches = batches
        self._steps = steps
        self.take_flops = walker.take_flops
        self.state = walker.state
        self.restore = walker.restore

    def round(self, round_index: int) -> ClientRound:
        walker, steps = self.walker, self._steps
        walker.enter((yield walker.begin(round_index, steps + 1)), round_index)
        samples = yield from local_steps(self._update, walker.piece, self._batches, steps, round_index)
        yield walker.upload(round_index, samples)


class HybridServer:
    """Runs the body on every client's activations in turn; keeps the scalars that move the heads."""

    def __init__(self, body: ServerModel, history: ScalarLog) -> None:
        self._body = body
        self._history = history

    def compute(self, ticket: Turn, message: Message) -> ServerReply:
        match message:
            case Activation(hidden=Tensor(), labels=Tensor()):
                return answer_activation(self._body, ticket, message)
        return self._history.answer(ticket, message)

    def commit(self, ticket: Turn, outcome: ServerReply | None) -> None:
        self._body.commit(ticket, self._history.take(ticket, outcome))

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


def hidden_of(batch: Batch, context: Mapping[str, Tensor]) -> Function:
    """The hidden state at the cut, its real tokens only, as a function of the head."""

    def forward(head: Callable[..., Any]) -> Tensor:
        return pack(head(batch.inputs, {}), context.get("mask"))

    return forward


def local_update(parts: LocalParts) -> LocalUpdate:
    """Of a controlled client, which sends its head in: by other methods there are no scalars to send."""
    own = parts.config.method.of(SlicedEstimate)
    moving = walk(values_of(parts.head), parts.config, parts.head_lr, is_sliced=own.slices)
    walker = ZerothOrderClient(parts.head, parts.client, own.estimate, moving)
    return ZerothOrderUpdate(walker, moving, parts.trainer)


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """This client's side."""
    settings = config.method.of(SlicedEstimate)
    walker = ZerothOrderClient.of(pieces.head(), batches, config, settings)
    return HybridClient(walker, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side."""
    own = config.method.of(SlicedEstimate)
    history = ScalarLog.of(pieces.head(), config, own.estimate.perturbations, is_sliced=own.slices)
    return HybridServer(ServerModel.of(pieces.body(), config), history)


_HOSFL = """@article{chen2026hosfl,
  title = {{HO-SFL}: Hybrid-Order Split Federated Learning with Backprop-Free Clients and
    Dimension-Free Aggregation},
  author = {Chen, Qiyuan and Chen, Xianhao and Wu, Xian and Wang, Yi},
  journal = {arXiv preprint arXiv:2603.14773},
  year = {2026}
}"""

SPEC = spec.MethodSpec(
    about="Hybrid LoRA: first order on the server, forward passes on the client, scalars for weights",
    bibtex=(_HOSFL, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_scalars((Activation, Gradient)),
    sends={"activation": spec.ANY_LOSS, "gradient": spec.ANY_LOSS},
    settings=SlicedEstimate,
    shared=spec.REPLAYED | spec.BODY | spec.IN_FLIGHT | spec.OPTIMISER,
    aggregators=spec.FACTORS | spec.SCALARS,
    holds=("head",),
    asynchronous=spec.REPLAYS,
    single_pass=spec.NOT_ONCE,
    summable=spec.NO_ADAPTERS,
    backpropagates=False,
    local_update=LocalUpdateSpec(make=local_update, awaits_gradient=True),
    refusals=(refuse_estimate,),
)
