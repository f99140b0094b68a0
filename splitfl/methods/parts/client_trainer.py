"""Client-side training of a piece: its trainable tensors, their optimiser, its FLOPs."""

from collections.abc import Callable, Generator, Mapping, Sequence
from typing import Final
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from splitfl.accounting.flops import Cost, cost
from splitfl.adapters.inject import held, install, overwrite, tracked, trainable
from splitfl.adapters.residuals import RESIDUAL_A, RESIDUALS, B, above, extended, residuals
from splitfl.config import RunConfig, TrainConfig
from splitfl.core.messages import Adapter, Begin, Done, Message, Reply
from splitfl.core.state import State, copied, number_in, part, under, whole
from splitfl.data.batch import Batch
from splitfl.federation.aggregators import Aggregator, aggregator
from splitfl.methods.parts.method import ClientRound
from splitfl.methods.parts.optimiser import (
    Decay,
    Group,
    Recipe,
    SideOptimiser,
    constant,
    head_decay,
)
from splitfl.models.cut import Piece
from splitfl.models.training_step import TrainingStep

_COSTS: Final[WeakKeyDictionary[Piece, dict[tuple[object, ...], Cost]]] = WeakKeyDictionary()
"""The costs of a piece, which clients may share, by the shape, the trained tensors and the residuals."""


class ClientTrainer:
    """A client's piece and its AdamW, whose moments are kept over rounds.

    `above` is a second piece trained with the first, at the body's learning rate; in messages its tensors
    have `prefix`. Both rates are multiplied by the `decay` of the round or, if the `recipe` says so, of the
    batch in the whole run, as the server counts them. If `rank` is set, only the first `rank` ranks of the
    piece's LoRA are trained.
    """

    def __init__(
        self,
        piece: Piece,
        aggregator: Aggregator,
        train: TrainConfig,
        above: Piece | None = None,
        prefix: str = "",
        decay: Decay = constant,
        recipe: Recipe | None = None,
    ) -> None:
        self.piece = piece
        self._above = above
        self.flops = 0.0
        self.rank: int | None = None
        self._version = 0
        self._seed = train.seed
        self._prefix = prefix
        self._aggregator = aggregator
        self.parameters = trainable(piece)
        self._tracked = tracked(piece)
        groups: list[Group] = [(self.parameters, train.head_lr)]
        self._parameters_above: dict[str, torch.nn.Parameter] = {}
        self._names_above: set[str] = set()
        if above is not None:
            self._parameters_above = {f"{prefix}{name}": value for name, value in trainable(above).items()}
            self._names_above = {_module(f"{prefix}{name}") for name in held(above)}
            self._tracked |= {f"{prefix}{name}": value for name, value in tracked(above).items()}
            groups.append((self._parameters_above, train.body_lr))
            assert self.parameters.keys().isdisjoint(self._parameters_above)
            self.parameters = {**self.parameters, **self._parameters_above}
        self._optimiser = SideOptimiser(groups, train, decay, recipe)
        self.set_batch = self._optimiser.set_batch
        self._residual_shapes: tuple[torch.Size, ...] = ()

    @classmethod
    def of(
        cls, piece: Piece, config: RunConfig, above: Piece | None = None, prefix: str = ""
    ) -> "ClientTrainer":
        """With the aggregator, the learning rates and their schedule of a run."""
        rule = aggregator(config.federation.aggregator)
        return cls(piece, rule, config.train, above, prefix, head_decay(config))

    def round(self, round_index: int, messages: int, steps: Generator[Message, Reply, int]) -> ClientRound:
        """A client's round: Begin, the messages of `steps`, which returns the number of samples, the upload.

        `messages` is their number after Begin.
        """
        self.start_round((yield self.begin(round_index, messages)), round_index)
        samples = yield from steps
        yield self.upload(round_index, samples)

    def begin(self, round_index: int, messages: int) -> Begin:
        """The first message of a round, with the number of messages to follow and the version held."""
        return Begin(steps=messages, version=self._version)

    def start_round(self, reply: Reply, round_index: int, head_lr: float | None = None) -> None:
        """Installs the averaged tensors of the reply, if any, and unfreezes those trained in this round.

        `head_lr` is the piece's learning rate in this round (None: that of the run).
        """
        for parameter in self.parameters.values():
            parameter.requires_grad_(True)
        if isinstance(reply, Adapter):
            self._install(reply.tensors)
            self._version = reply.version
        for name, parameter in self.parameters.items():
            parameter.requires_grad_(self._aggregator.trains(name, round_index))
        self._optimiser.drop()
        self._optimiser.set_round(round_index, head_lr)
        if isinstance(reply, Adapter | Done):
            self.set_batch(reply.first_batch)

    def training_step(self, batch: Batch, round_index: int, step: int) -> TrainingStep:
        """The step of a round that this batch is computed in."""
        return TrainingStep(
            seed=self._seed,
            client=batch.client,
            round=round_index,
            step=step,
            ids=batch.ids_B.tolist(),
        )

    def cost(self, shape: Sequence[int], piece: Piece | None = None) -> Cost:
        """FLOPs of a step of the piece, or of `piece`, on (B, T) tokens and, if any, (B, U) answers."""
        chosen = piece or self.piece
        known = _COSTS.setdefault(chosen, {})
        trained = (parameter.requires_grad for parameter in self.parameters.values())
        key = (*shape, *trained, *self._residual_shapes)
        if key not in known:
            known[key] = cost(chosen, *shape)
        return known[key]

    def step(self) -> None:
        """Takes in the gradients that backward left: a step, or with accumulation a part of one."""
        self._update(self._optimiser.step)

    def zero_grad(self) -> None:
        """Drops the gradients of a batch whose exchange failed."""
        self._optimiser.zero_grad()

    def upload(self, round_index: int, samples: int, losses: tuple[float, ...] = ()) -> Adapter:
        """What this client trained in this round, a snapshot; it ends a group of accumulated batches."""
        self._update(self._optimiser.finish)
        return Adapter(
            version=self._version,
            samples=samples,
            losses=losses,
            tensors={
                name: parameter.detach().clone()
                for name, parameter in self._held.items()
                if self._aggregator.trains(name, round_index)
            },
        )

    def take_flops(self) -> float:
        """FLOPs since the last call."""
        spent, self.flops = self.flops, 0.0
        return spent

    def state(self) -> State:
        """Version, values, moments and residuals, by name."""
        values = {name: value.detach() for name, value in self._held.items()}
        kept = under("value", copied(values)) | self._optimiser.state()
        residual = under("residual", copied(residuals(self.piece.model)))
        if self._above is not None:
            residual |= under("residual_above", copied(residuals(self._above.model)))
        return kept | residual | {"version": whole(self._version)}

    def restore(self, state: State) -> None:
        self._version = number_in(state, "version")
        overwrite(self._held, part(state, "value"))
        self._optimiser.restore(state)
        install(self.piece, part(state, "residual"))
        if self._above is not None:
            install(self._above, part(state, "residual_above"))
        self._note_residuals()

    @property
    def own(self) -> dict[str, Tensor]:
        """The piece's trained tensors, detached; without those of `above`."""
        return {n: value.detach() for n, value in self.parameters.items() if n not in self._parameters_above}

    @property
    def _held(self) -> dict[str, Tensor]:
        return {**self.parameters, **self._tracked}

    def _update(self, optimise: Callable[[], bool]) -> None:
        """Runs the optimiser; ranks above `rank` keep their values."""
        frozen = [] if self.rank is None else above(self.own, self.rank)
        before = [value.clone() for value in frozen]
        optimise()
        for value, was in zip(frozen, before, strict=True):
            value.copy_(was)

    def _install(self, tensors: Mapping[str, Tensor]) -> None:
        """Replaces values by those received and appends residuals.

        A residual received without factors includes the product of the old ones, so B is reset to zero.
        """
        for name in tensors:
            second = name.removesuffix(RESIDUAL_A) + B
            if name.endswith(RESIDUAL_A) and second not in tensors:
                torch.nn.init.zeros_(self.parameters[second])
        own = {name: value for name, value in tensors.items() if _module(name) not in self._names_above}
        _install_tensors(self.piece, own)
        if self._above is not None:
            others = {n.removeprefix(self._prefix): value for n, value in tensors.items() if n not in own}
            _install_tensors(self._above, others)
        self._note_residuals()

    def _note_residuals(self) -> None:
        """Residuals add to the costs of a step."""
        pieces = (self.piece, self._above) if self._above is not None else (self.piece,)
        self._residual_shapes = tuple(
            value.shape for piece in pieces for value in residuals(piece.model).values()
        )


def _install_tensors(piece: Piece, tensors: Mapping[str, Tensor]) -> None:
    more = {name: value for name, value in tensors.items() if name.endswith(RESIDUALS)}
    install(piece, {**tensors, **extended(residuals(piece.model), more)})


def _module(name: str) -> str:
    """The module that a tensor belongs to, without the suffix of its adapter."""
    return name.rpartition(".lora_")[0] or name.rpartition(".residual_")[0] or name
