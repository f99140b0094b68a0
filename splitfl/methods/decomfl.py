"""`decomfl`: no cut and no adapters on the link, scalars only.

DeComFL (Li et al., ICLR'25). Every client holds the whole model and estimates the directional derivatives of
its loss along P perturbations a step; it uploads the S * P scalars of a round and receives those of all
clients at the start of the next. With one client and central differences this is MeZO (Malladi et al.,
NeurIPS'23). Departures from the paper: perturbations are derived from names, so no seed is sent, and each
client has its own.
"""

# S steps of a round, P perturbations

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor

from splitfl.config import RunConfig
from splitfl.core.messages import Message, Scalars
from splitfl.core.state import State
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.methods.parts import spec
from splitfl.methods.parts.forward_mode import Function
from splitfl.methods.parts.method import ClientMethod, ClientRound, Pieces, ServerMethod, ServerReply, Turn
from splitfl.methods.parts.references import DECOMFL, LORA, MEZO
from splitfl.methods.parts.scalar_log import ScalarLog
from splitfl.methods.parts.zeroth_order_client import SlicedEstimate, ZerothOrderClient, refuse_estimate


class DecomflClient:
    """Finetunes the whole model with forward passes only, for `steps` batches a round."""

    def __init__(self, zeroth_order: ZerothOrderClient, batches: Batches, steps: int) -> None:
        self.zeroth_order = zeroth_order
        self._batches = batches
        self._steps = steps
        self.take_flops = zeroth_order.take_flops
        self.state = zeroth_order.state
        self.restore = zeroth_order.restore

    def round(self, round_index: int) -> ClientRound:
        zeroth_order, model = self.zeroth_order, self.zeroth_order.piece
        zeroth_order.start_round((yield zeroth_order.begin(round_index, 1)), round_index)
        losses: list[float] = []
        samples = 0
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(model.model.device)
            forward = loss_of(batch)
            loss = zeroth_order.evaluate(forward, batch.shape)
            zeroth_order.step(forward, loss.new_ones(()), loss, batch.shape)
            losses.append(loss.item())
            samples += len(batch.ids_B)
        yield zeroth_order.upload(round_index, samples, tuple(losses))


class DecomflServer:
    """Logs the scalars and replays them on the trained tensors; holds no model."""

    def __init__(self, scalar_log: ScalarLog) -> None:
        self._scalar_log = scalar_log

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        return self._scalar_log.answer(turn, message)

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        if reply is not None and isinstance(reply.change, Scalars):
            self._scalar_log.receive(turn.client, 0, reply.change.values, reply.change.samples)

    def end_round(self, round_index: int) -> None:
        self._scalar_log.end_round()

    def trained(self) -> Mapping[str, Tensor]:
        return self._scalar_log.tensors

    def state(self) -> State:
        return self._scalar_log.state()

    def restore(self, state: State) -> None:
        self._scalar_log.restore(state)


def loss_of(batch: Batch) -> Function:
    """The loss of a batch as a function of the model."""

    def forward(model: Callable[..., Any]) -> Tensor:
        loss = model(batch.inputs, {}, batch.labels).loss
        assert isinstance(loss, Tensor)
        return loss

    return forward


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with the whole model."""
    settings = config.method.of(SlicedEstimate)
    zeroth_order = ZerothOrderClient.of(pieces.whole(), batches, config, settings)
    return DecomflClient(zeroth_order, batches, steps)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, without a model."""
    own = config.method.of(SlicedEstimate)
    perturbations = own.estimate.perturbations
    return DecomflServer(ScalarLog.of(pieces.whole(), config, perturbations, is_sliced=own.slices))


SPEC = spec.MethodSpec(
    about="no cut: clients send directional derivatives of the whole model's loss, scalars only",
    bibtex=(DECOMFL, MEZO, LORA),
    client=client,
    server=server,
    signature=spec.Signature.with_scalars(),
    sends={},
    labels="kept",
    settings=SlicedEstimate,
    shared=spec.REPLAYED,
    aggregators=spec.FACTORS | spec.SCALARS,
    holds=("head", "body"),
    asynchronous=spec.REPLAYS,
    single_pass=spec.NOT_ONCE,
    summable=spec.NO_ADAPTERS,
    server_batch=spec.NO_BODY,
    shardable=spec.NO_BODY,
    backpropagates=False,
    refusals=(refuse_estimate,),
)
