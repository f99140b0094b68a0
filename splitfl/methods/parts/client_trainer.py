"""A piece that learns on the spot: its trainable tensors, their optimiser, its FLOPs."""

from collections.abc import Callable, Generator, Mapping, Sequence

import torch
from torch import Tensor

from splitfl.accounting.flops import Cost, cost
from splitfl.adapters.inject import held, install, overwrite, tracked, trainable
from splitfl.adapters.residuals import RESIDUAL_A, RESIDUALS, B, above, extended, residuals
from splitfl.config import RunConfig, TrainConfig
from splitfl.core.messages import Adapter, Begin, Message, Reply
from splitfl.core.state import State, copied, number_in, part, under, whole
from splitfl.federation.aggregators import Aggregator, aggregator
from splitfl.methods.parts.method import ClientRound
from splitfl.methods.parts.optimiser import Group, SideOptimiser
from splitfl.methods.parts.rates import Decay, constant, head_decay
from splitfl.models.cut import Piece


class ClientTrainer:
    """A client's piece and its AdamW, whose moments live as long as the client does.

    `above` is a second piece that learns with the first, at the body's rate; in messages
    its tensors' names begin with `prefix`. In a round both rates are multiplied by that
    round's `decay`. Of the piece's LoRA no more than `rank` ranks learn, if that says how many.
    """

    def __init__(
        self,
        piece: Piece,
        aggregator: Aggregator,
        train: TrainConfig,
        above: Piece | None = None,
        prefix: str = "",
        decay: Decay = constant,
    ) -> None:
        self.piece = piece
        self._above = above
        self.flops = 0.0
        self.rank: int | None = None
        self._version = 0
        self._prefix = prefix
        self._costs: dict[tuple[int, int, int], Cost] = {}
        self._aggregator = aggregator
        self.parameters = trainable(piece)
        self._tracked = tracked(piece)
        groups: list[Group] = [(self.parameters, train.head_lr)]
        self._of_above: dict[str, torch.nn.Parameter] = {}
        self._names_above: set[str] = set()
        if above is not None:
            self._of_above = {f"{prefix}{name}": value for name, value in trainable(above).items()}
            self._names_above = {_module(f"{prefix}{name}") for name in held(above)}
            self._tracked |= {f"{prefix}{name}": value for name, value in tracked(above).items()}
            groups.append((self._of_above, train.body_lr))
            assert self.parameters.keys().isdisjoint(self._of_above)
            self.parameters = {**self.parameters, **self._of_above}
        self._optimiser = SideOptimiser(groups, train, decay)

    @classmethod
    def of(
        cls, piece: Piece, config: RunConfig, above: Piece | None = None, prefix: str = ""
    ) -> "ClientTrainer":
        """Of a run: its rule of aggregation, its rates and how they decay."""
        rule = aggregator(config.federation.aggregator)
        return cls(piece, rule, config.train, above, prefix, head_decay(config))

    def round(self, round_index: int, messages: int, steps: Generator[Message, Reply, int]) -> ClientRound:
        """A client's round: it begins, takes its steps, which come to so many samples, and sends its work in.

        `messages` are those of the steps, and one more.
        """
        self.enter((yield self.begin(round_index, messages)), round_index)
        samples = yield from steps
        yield self.upload(round_index, samples)

    def begin(self, round_index: int, messages: int) -> Begin:
        """Asks to begin a round of so many further messages, naming the version held."""
        return Begin(steps=messages, version=self._version)

    def enter(self, reply: Reply, round_index: int, head_lr: float | None = None) -> None:
        """Takes over the federation's tensors, if any came, and frees those this round trains.

        The piece learns at `head_lr` in this round, where that says a rate.
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
        self._costs.clear()

    def cost(self, shape_BT: Sequence[int], piece: Piece | None = None) -> Cost:
        """FLOPs of one step of its piece, or of this one, on (B, T) tokens, with what this round trains."""
        chosen = piece or self.piece
        key = (shape_BT[0], shape_BT[1], id(chosen))
        if key not in self._costs:
            self._costs[key] = cost(chosen, *key[:2])
        return self._costs[key]

    def step(self) -> None:
        """Takes in the gradients that backward left: a step, or with accumulation a part of one."""
        self._update(self._optimiser.step)

    def forget(self) -> None:
        """Drops the gradients of a batch whose exchange failed."""
        self._optimiser.forget()

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
        """FLOPs since this was last asked."""
        spent, self.flops = self.flops, 0.0
        return spent

    def state(self) -> State:
        """Version, values and moments."""
        values = {name: value.detach() for name, value in self._held.items()}
        kept = under("value", copied(values)) | self._optimiser.state()
        residual = under("residual", copied(residuals(self.piece.model)))
        if self._above is not None:
            residual |= under("residual_above", copied(residuals(self._above.model)))
        return kept | residual | {"version": whole(self._version)}

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._version = number_in(state, "version")
        overwrite(self._held, part(state, "value"))
        self._optimiser.restore(state)
        install(self.piece, part(state, "residual"))
        if self._above is not None:
            install(self._above, part(state, "residual_above"))

    @property
    def own(self) -> dict[str, Tensor]:
        """The piece's trained tensors, without their graphs; none of what is above it."""
        return {n: value.detach() for n, value in self.parameters.items() if n not in self._of_above}

    @property
    def _held(self) -> dict[str, Tensor]:
        return {**self.parameters, **self._tracked}

    def _update(self, optimise: Callable[[], bool]) -> None:
        """Runs the optimiser; ranks above `rank` keep their values."""
        still = [] if self.rank is None else above(self.own, self.rank)
        before = [value.clone() for value in still]
        optimise()
        for value, was in zip(still, before, strict=True):
            value.copy_(was)

    def _install(self, tensors: Mapping[str, Tensor]) -> None:
        """Values take the place of those there are, residuals are added to them.

        A residual without factors holds them: what was in B is in it now, so B begins anew.
        """
        for name in tensors:
            second = name.removesuffix(RESIDUAL_A) + B
            if name.endswith(RESIDUAL_A) and second not in tensors:
                torch.nn.init.zeros_(self.parameters[second])
        own = {name: value for name, value in tensors.items() if _module(name) not in self._names_above}
        _take(self.piece, own)
        if self._above is not None:
            others = {n.removeprefix(self._prefix): value for n, value in tensors.items() if n not in own}
            _take(self._above, others)


def _take(piece: Piece, tensors: Mapping[str, Tensor]) -> None:
    more = {name: value for name, value in tensors.items() if name.endswith(RESIDUALS)}
    install(piece, {**tensors, **extended(residuals(piece.model), more)})


def _module(name: str) -> str:
    """The module that a tensor is of, by whatever names its adapters go."""
    return name.rpartition(".lora_")[0] or name.rpartition(".residual_")[0] or name


def pack(hidden_BTD: Tensor, mask_BT: Tensor | None) -> Tensor:
    """(N, D): the real tokens only, since no real token's result depends on padding."""
    return hidden_BTD if mask_BT is None else hidden_BTD[mask_BT.bool()]


def unpack(hidden_ND: Tensor, mask_BT: Tensor | None) -> Tensor:
    """(B, T, D) again, with zeros where there is padding."""
    if mask_BT is None:
        return hidden_ND
    hidden_BTD = hidden_ND.new_zeros(*mask_BT.shape, hidden_ND.shape[-1])
    hidden_BTD[mask_BT.bool()] = hidden_ND
    return hidden_BTD
