"""`dp`: no cut; synchronous data parallelism, the baseline of methods with local steps.

In every step each client sends the gradients of its batch and receives their mean over all clients, weighted
by labels: the gradient of the mean loss on the joint batch. Clients and server then take the same AdamW step,
so moments need not travel. A client that missed a step receives tensors and moments with its next reply; its
gradient, which is of older tensors, is not used.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from splitfl.adapters.inject import overwrite, trainable
from splitfl.config import RunConfig, group
from splitfl.core.errors import ConfigError, WireError
from splitfl.core.messages import Adapter, Begin, Done, Message, Reply, WeightGradients
from splitfl.core.state import State, copied, number_in, part, under, whole
from splitfl.data.batch import Batch
from splitfl.data.loader import Batches
from splitfl.federation.aggregators import weighted_mean
from splitfl.methods.parts import spec
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.label_counts import label_counts
from splitfl.methods.parts.method import (
    Batched,
    ClientMethod,
    ClientRound,
    Pieces,
    ServerMethod,
    ServerReply,
    Turn,
    unexpected,
)
from splitfl.methods.parts.optimiser import SideOptimiser
from splitfl.methods.parts.split_pass import Backpropagation, WholePass
from splitfl.methods.pretraining.inner_loop import InnerLoop, inner_optimiser, inner_trainer, refuse_epochs


@dataclass(frozen=True, kw_only=True)
class DataParallelSettings:
    """The optimiser of all clients and the server, and the clients' memory saving."""

    inner: InnerLoop = group(InnerLoop)
    memory: Backpropagation = group(Backpropagation)


class DataParallelClient:
    """Computes gradients of the whole model for `steps` batches a round, and steps with the clients' mean."""

    def __init__(
        self, trainer: ClientTrainer, batches: Batches, steps: int, clients: int, memory: Backpropagation
    ) -> None:
        self._trainer = trainer
        self._pass = WholePass(trainer, memory)
        self._batches = batches
        self._steps = steps
        self._clients = clients
        self._version = 0
        self.take_flops = trainer.take_flops

    def round(self, round_index: int) -> ClientRound:
        trainer, device = self._trainer, self._trainer.piece.model.device
        reply = yield Begin(steps=self._steps, version=self._version)
        trainer.start_round(reply, round_index)
        self._take(reply)
        for step in range(self._steps):
            batch = self._batches.batch(round_index * self._steps + step).to(device)
            loss = self._pass.backpropagate(batch, trainer.training_step(batch, round_index, step))
            self._take((yield self._gradients(batch, loss)))

    def state(self) -> State:
        return {**under("trainer", self._trainer.state()), "version": whole(self._version)}

    def restore(self, state: State) -> None:
        self._trainer.restore(part(state, "trainer"))
        self._version = number_in(state, "version")

    def _gradients(self, batch: Batch, loss: float) -> WeightGradients:
        """The gradients that backward left, which are dropped here."""
        held = self._trainer.parameters.items()
        gradients = {name: value.grad for name, value in held if value.grad is not None}
        self._trainer.zero_grad()
        return WeightGradients(
            version=self._version,
            gradients=gradients,
            labels=int(label_counts(batch.labels, self._trainer.piece.kind).sum()),
            samples=len(batch.ids_B),
            losses=(loss,),
        )

    def _take(self, reply: Reply) -> None:
        """Takes the step of a reply, after replacing tensors and moments if the reply has them."""
        if not isinstance(reply, WeightGradients):
            return
        trainer = self._trainer
        if reply.state:
            trainer.restore({**trainer.state(), **reply.state})  # its residuals and counts stay
        if reply.gradients:
            for name, gradient in reply.gradients.items():
                parameter = trainer.parameters[name]
                parameter.grad = gradient.to(parameter.device)
            trainer.set_batch((reply.version - 1) * self._clients)
            trainer.step()
        self._version = reply.version


class DataParallelServer:
    """Averages the gradients of a step and takes it too; holds the trained tensors and their moments."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], optimiser: SideOptimiser, clients: int
    ) -> None:
        self._parameters = parameters
        self._optimiser = optimiser
        self._clients = clients
        self._version = 0

    def compute(self, turn: Turn, message: Message) -> ServerReply:
        match message:
            case Begin() if message.version == self._version:
                return ServerReply(reply=Done())
            case Begin():
                return ServerReply(reply=WeightGradients(version=self._version, state=self._shared()))
            case WeightGradients():
                return self.compute_batch([turn], [message])[0]
        raise unexpected("dp", message)

    def compute_batch(self, turns: Sequence[Turn], messages: Sequence[Batched]) -> list[ServerReply]:
        """See BatchServer."""
        updates = [self._checked(turn, message) for turn, message in zip(turns, messages, strict=True)]
        mean = weighted_mean(
            [
                Adapter(version=one.version, tensors=one.gradients, samples=one.labels)
                for one in updates
                if one.version == self._version and one.labels
            ]
        )
        behind = self._shared() if any(one.version != self._version for one in updates) else {}
        version = self._version + bool(mean)
        return [
            ServerReply(
                reply=WeightGradients(
                    version=version,
                    gradients=mean,
                    state=behind if one.version != self._version else {},
                ),
                flops=2.0 * sum(value.numel() for value in one.gradients.values()),  # of the weighted sum
                losses=one.losses,
                samples=one.samples,
                change=mean if place == len(updates) - 1 else None,
            )
            for place, one in enumerate(updates)
        ]

    def commit(self, turn: Turn, reply: ServerReply | None) -> None:
        if reply is None or not reply.change:
            return
        for name, gradient in reply.change.items():
            self._parameters[name].grad = gradient
        self._optimiser.set_batch(self._version * self._clients)
        self._optimiser.step()
        self._version += 1

    def end_round(self, round_index: int) -> None:
        """Nothing is left to do: every step was taken when its gradients had come."""

    def trained(self) -> Mapping[str, Tensor]:
        return copied(self._parameters)

    def state(self) -> State:
        return {**self._shared(), "version": whole(self._version)}

    def restore(self, state: State) -> None:
        overwrite(self._parameters, part(state, "value"))
        self._optimiser.restore(state)
        self._version = number_in(state, "version")

    def _shared(self) -> dict[str, Tensor]:
        """Tensors and moments, by the names of a ClientTrainer's state."""
        return {**under("value", copied(self._parameters)), **self._optimiser.state()}

    def _checked(self, turn: Turn, message: Batched) -> WeightGradients:
        """The message; raises WireError for gradients of other tensors than the trained ones."""
        if not isinstance(message, WeightGradients):
            raise unexpected("dp", message)
        for name, gradient in message.gradients.items():
            own = self._parameters.get(name)
            if own is None or own.shape != gradient.shape:
                held = "which is not trained" if own is None else f"which has {list(own.shape)}"
                raise WireError(
                    f"client {turn.client} sent a gradient {list(gradient.shape)} of {name!r}, {held}"
                )
        return message


def client(pieces: Pieces, batches: Batches, steps: int, config: RunConfig) -> ClientMethod:
    """The client's side, with the whole model."""
    trainer = inner_trainer(pieces.whole(), config, spec.declared_steps(config))
    memory, clients = config.method.of(Backpropagation), config.federation.clients
    return DataParallelClient(trainer, batches, steps, clients, memory)


def server(pieces: Pieces, config: RunConfig) -> ServerMethod:
    """The server's side, with the trained tensors alone."""
    held = trainable(pieces.whole())
    parameters = {name: nn.Parameter(value.detach().cpu().clone()) for name, value in held.items()}
    optimiser = inner_optimiser(parameters, config, spec.declared_steps(config))
    return DataParallelServer(parameters, optimiser, config.federation.clients)


def refuse_other_steps(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for clients with other numbers of steps than each other."""
    if config.federation.client_steps:
        raise ConfigError(
            "federation.client_steps must be [] with the method 'dp', where all clients take every step; got "
            f"{list(config.federation.client_steps)}"
        )


_DDP = """@article{li2020pytorch,
  title = {{PyTorch} Distributed: Experiences on Accelerating Data Parallel Training},
  author = {Li, Shen and Zhao, Yanli and Varma, Rohan and Salpekar, Omkar and Noordhuis, Pieter and Li, Teng
    and Paszke, Adam and Smith, Jeff and Vaughan, Brian and Damania, Pritam and Chintala, Soumith},
  journal = {Proceedings of the {VLDB} Endowment},
  volume = {13},
  number = {12},
  year = {2020}
}"""

SPEC = spec.MethodSpec(
    about="no cut: data parallelism, clients exchange the gradients of every step (the baseline)",
    bibtex=(_DDP,),
    client=client,
    server=server,
    signature=spec.Signature(begin=Done, step=((WeightGradients, WeightGradients),), end=None),
    sends={},
    labels="in gradients",
    settings=DataParallelSettings,
    shared=spec.HEAD | (spec.OPTIMISER - {"train.accumulate"}),
    aggregators=spec.FACTORS,
    holds=("head", "body"),
    asynchronous="takes each step with the gradients of all clients",
    single_pass="exchanges gradients, and no running statistics",
    summable=spec.NO_ADAPTERS,
    server_batch="takes the gradients of all clients of a step together",
    shardable=spec.NO_BODY,
    backpropagates=True,
    dropout=("head", "body"),
    refusals=(refuse_epochs, refuse_other_steps),
    waits_for_all=True,
)
