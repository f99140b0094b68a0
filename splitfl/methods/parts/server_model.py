"""The server's body: one set of trained tensors, several steps in flight.

The step at position i is computed from the parameters after position i - in_flight, whatever the
machine's speed, so results do not depend on the number of threads. `in_flight = 1` is sequential
training; more is the bounded delay of pipelined and asynchronous SGD (Stich & Karimireddy, JMLR 2020).
"""

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from splitfl.accounting.flops import answers_in, cost
from splitfl.adapters.inject import overwrite, tracked, trainable
from splitfl.config import RunConfig, TrainConfig
from splitfl.core.messages import Activation, Done, Gradient, Message
from splitfl.core.state import (
    State,
    copied,
    listed,
    number_in,
    numbered,
    part,
    under,
    whole,
)
from splitfl.methods.parts.method import ServerReply, Turn
from splitfl.methods.parts.optimiser import Decay, SideOptimiser, body_decay, constant
from splitfl.models.cut import Piece, replica
from splitfl.models.token_rows import pack, unpack
from splitfl.models.training_step import BatchRows, TrainingStep, training_step


@dataclass(frozen=True, kw_only=True, eq=False)
class BodyStep:
    """One batch's mean loss and gradients: `hidden_grad` (B, T, D), None if not requested.

    `grads` are in the order of the body's trainable tensors; `statistics` are the running statistics of
    the batch norms after the batch.
    """

    loss: float
    flops: float
    hidden_grad: Tensor | None
    grads: tuple[Tensor | None, ...]
    statistics: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Worker:
    """A replica of the body, and its trainable tensors."""

    piece: Piece
    parameters: Mapping[str, torch.nn.Parameter]


class ServerModel:
    """The body with its AdamW; `compute` is thread-safe, `commit` is called in order of positions."""

    def __init__(self, piece: Piece, train: TrainConfig, in_flight: int, decay: Decay = constant) -> None:
        self.piece = piece
        self._seed = train.seed
        self._in_flight = in_flight
        self._master = trainable(piece)
        self._statistics = tracked(piece)
        self._optimiser = SideOptimiser([(self._master, train.body_lr)], train, decay)
        pieces = [replica(piece) for _ in range(in_flight)] if in_flight > 1 else [piece]
        self._workers = [_Worker(piece=one, parameters=trainable(one)) for one in pieces]
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._workers:
            self._free.put(worker)
        self._states: deque[Mapping[str, Tensor]] = deque([self.trained()], maxlen=in_flight)
        self._committed = 0
        self._costs: dict[tuple[int, ...], float] = {}
        self._lock = threading.Lock()

    @classmethod
    def of(cls, piece: Piece, config: RunConfig) -> "ServerModel":
        """Of a run: its rate, its schedule, and as many steps in flight as its method takes."""
        return cls(piece, config.train, config.method.in_flight, body_decay(config))

    def compute(
        self,
        position: int,
        hidden_BTD: Tensor,
        context: Mapping[str, Tensor],
        labels: Tensor,
        step: BatchRows | None = None,
        *,
        wants_hidden_grad: bool,
        entry: Piece | None = None,
    ) -> BodyStep:
        """Loss and gradients of one batch of hidden states; changes no state.

        Dropout masks are those of the `step`; there are none without it.

        With clients cut at different depths, `entry` is the body from this client's cut on, with the
        body's own tensors; tensors below it have the gradient None.
        """
        worker = self._free.get()
        try:
            if self._in_flight > 1:
                overwrite(worker.parameters, self._state_for(position))
            hidden_BTD = hidden_BTD.detach().requires_grad_(wants_hidden_grad)
            device = hidden_BTD.device
            device_context = {name: tensor.to(device) for name, tensor in context.items()}
            before = copies(tracked(worker.piece))
            piece = entry or worker.piece
            with training_step(step, piece):
                loss = piece(hidden_BTD, device_context, labels.to(device)).loss
            statistics = copies(tracked(worker.piece))
            trained = [value for value in worker.parameters.values() if value.requires_grad]
            wanted = [*([hidden_BTD] if wants_hidden_grad else []), *trained]
            grads = torch.autograd.grad(loss, wanted, allow_unused=entry is not None)
            overwrite(tracked(worker.piece), before)  # statistics change in commit only
            return BodyStep(
                loss=loss.item(),
                flops=self._flops(entry or self.piece, hidden_BTD, labels, wants_hidden_grad),
                hidden_grad=grads[0] if wants_hidden_grad else None,
                grads=grads[1:] if wants_hidden_grad else grads,
                statistics=statistics,
            )
        finally:
            self._free.put(worker)

    def training_step(self, turn: Turn, ids_B: Tensor, step: int) -> TrainingStep:
        """The step of a client's round whose activations, of the samples `ids_B`, came in this turn."""
        return TrainingStep(
            seed=self._seed, client=turn.client, round=turn.round, step=step, ids=ids_B.tolist()
        )

    def losses(
        self, position: int, hiddens_BTD: Iterable[Tensor], context: Mapping[str, Tensor], labels: Tensor
    ) -> tuple[list[float], float]:
        """The loss at each of these hidden states, at the parameters of `compute`, and the FLOPs."""
        worker = self._free.get()
        try:
            if self._in_flight > 1:
                overwrite(worker.parameters, self._state_for(position))
            found, flops = [], 0.0
            with torch.no_grad():
                for hidden_BTD in hiddens_BTD:
                    device_context = {name: tensor.to(hidden_BTD.device) for name, tensor in context.items()}
                    found.append(
                        worker.piece(hidden_BTD, device_context, labels.to(hidden_BTD.device)).loss.item()
                    )
                    shape = (*hidden_BTD.shape[:2], answers_in(self.piece, labels))
                    flops += cost(self.piece, *shape).forward_flops
            return found, flops
        finally:
            self._free.put(worker)

    def commit(self, turn: Turn, step: BodyStep | None) -> None:
        """Takes in one batch's gradients, or none where it was lost; positions come in order.

        The parameters change with the last of `train.accumulate` batches, of whichever clients.
        """
        is_changed = False
        if step is not None:
            trained = [value for value in self._master.values() if value.requires_grad]
            for parameter, grad in zip(trained, step.grads, strict=True):
                parameter.grad = grad
            self._optimiser.set_round(turn.round)
            is_changed = self._optimiser.step()
            overwrite(self._statistics, step.statistics)
        with self._lock:
            self._committed = turn.position + 1
            if self._in_flight > 1:
                self._states.append(self.trained() if is_changed else self._states[-1])

    def end_round(self) -> None:
        """Ends a group of accumulated batches; nothing may be in flight."""
        if self._optimiser.finish():
            self._states.extend([self.trained()] * self._in_flight)

    def train_only(self, trains: Callable[[str], bool]) -> None:
        """Freezes all tensors but those whose name `trains`; no step may be in flight."""
        for parameters in (self._master, *(worker.parameters for worker in self._workers)):
            for name, parameter in parameters.items():
                parameter.requires_grad_(trains(name))
        self._costs.clear()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Replaces the values of these tensors; no step may be in flight."""
        overwrite(self._held, tensors)
        self._states.extend([self.trained()] * self._in_flight)

    def trained(self) -> dict[str, Tensor]:
        """A snapshot of the trained tensors and the running statistics."""
        return copies(self._held)

    def state(self) -> State:
        """Values, moments, and the parameters that the next steps in flight start from."""
        behind = listed([copied(state) for state in self._states]) if self._in_flight > 1 else {}
        return {
            **under("value", copied(self.trained())),
            **self._optimiser.state(),
            **under("behind", behind),
            "committed": whole(self._committed),
        }

    def restore(self, state: State) -> None:
        """Continues from this state; no step may be in flight."""
        self._committed = number_in(state, "committed")
        overwrite(self._held, part(state, "value"))
        self._optimiser.restore(state)
        self._states.clear()
        self._states.extend(numbered(part(state, "behind")).values())
        if self._in_flight == 1:
            self._states.append(self.trained())

    @property
    def _held(self) -> dict[str, Tensor]:
        return {**self._master, **self._statistics}

    def _flops(self, piece: Piece, hidden_BTD: Tensor, labels: Tensor, wants_hidden_grad: bool) -> float:
        shape = (*hidden_BTD.shape[:2], answers_in(piece, labels))
        key = (*shape, wants_hidden_grad, id(piece))
        if key not in self._costs:
            self._costs[key] = cost(piece, *shape, gradient_to_input=wants_hidden_grad).step_flops
        return self._costs[key]

    def _state_for(self, position: int) -> Mapping[str, Tensor]:
        with self._lock:
            behind = self._committed - max(0, position - self._in_flight + 1)
            return self._states[-1 - behind]


def copies(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detached copies of these tensors."""
    return {name: value.detach().clone() for name, value in tensors.items()}


def answer_activation(
    body: ServerModel,
    turn: Turn,
    message: Activation,
    entry: Piece | None = None,
    *,
    wants_gradient: bool = True,
) -> ServerReply:
    """The body's step on a client's activations; see `ServerModel.compute`.

    The reply is the gradient at the cut, or Done unless the client `wants_gradient`.
    """
    assert message.hidden is not None
    assert message.labels is not None
    hidden_BTD = unpack(message.hidden, message.context.get("mask")).to(body.piece.model.device)
    step = body.compute(
        turn.position,
        hidden_BTD,
        message.context,
        message.labels,
        body.training_step(turn, message.ids_B, turn.lap - 1),
        wants_hidden_grad=wants_gradient,
        entry=entry,
    )
    return ServerReply(
        reply=reply_to(message, step.hidden_grad),
        flops=step.flops,
        losses=(step.loss,),
        samples=len(message.ids_B),
        change=step,
    )


def reply_to(message: Activation, grad_BTD: Tensor | None) -> Message:
    """The gradient at the cut for the sender of these activations, or Done without one."""
    if grad_BTD is None:
        return Done()
    return Gradient(ids_B=message.ids_B, grad=pack(grad_BTD, message.context.get("mask")).cpu())
