"""A piece that learns on the spot: its trainable tensors, their optimiser, its FLOPs."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from splitfl.adapters import install, trainable
from splitfl.config import TrainConfig
from splitfl.federation.aggregate import Aggregator
from splitfl.messages import Adapter, Control, Reply
from splitfl.partition.cost import Cost, cost
from splitfl.partition.cut import Piece


class Learner:
    """A client's piece and its AdamW, whose moments live as long as the client does."""

    def __init__(self, piece: Piece, aggregator: Aggregator, train: TrainConfig) -> None:
        self.piece = piece
        self.flops = 0.0
        self._version = 0
        self._costs: dict[tuple[int, int], Cost] = {}
        self._aggregator = aggregator
        self._parameters = trainable(piece)
        self._optimiser = adamw(self._parameters, train.head_lr, train)

    def begin(self, round_index: int, messages: int) -> Control:
        """Asks to begin a round of so many further messages, naming the version held."""
        return Control(ask="begin", round=round_index, steps=messages, values={"version": self._version})

    def enter(self, reply: Reply, round_index: int) -> None:
        """Takes over the federation's tensors, if any came, and frees those this round trains."""
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)
        if isinstance(reply, Adapter):
            install(self.piece, reply.tensors)
            self._version = reply.version
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(self._aggregator.trains(name, round_index))
        self._costs.clear()

    def cost(self, shape_BT: Sequence[int]) -> Cost:
        """FLOPs of one step on (B, T) tokens, with what this round trains."""
        shape = (shape_BT[0], shape_BT[1])
        if shape not in self._costs:
            self._costs[shape] = cost(self.piece, *shape)
        return self._costs[shape]

    def step(self) -> None:
        """One step of the optimiser from the gradients that backward left."""
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)

    def upload(self, round_index: int, samples: int, losses: tuple[float, ...] = ()) -> Adapter:
        """What this client trained in this round, a snapshot."""
        return Adapter(
            version=self._version,
            samples=samples,
            losses=losses,
            tensors={
                name: parameter.detach().clone()
                for name, parameter in self._parameters.items()
                if self._aggregator.trains(name, round_index)
            },
        )

    def take_flops(self) -> float:
        """FLOPs since this was last asked."""
        spent, self.flops = self.flops, 0.0
        return spent


def adamw(parameters: Mapping[str, torch.nn.Parameter], lr: float, train: TrainConfig) -> torch.optim.AdamW:
    """AdamW with the run's weight decay over these tensors."""
    return torch.optim.AdamW(list(parameters.values()), lr=lr, weight_decay=train.weight_decay)


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
