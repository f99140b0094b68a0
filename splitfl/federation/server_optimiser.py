"""Server optimisers, which use the clients' mean update as a pseudo-gradient (Reddi et al., ICLR'21).

Algorithm 2 of the paper, with its recommended beta_1 = 0.9, beta_2 = 0.99 and tau = 1e-3:

    m = beta_1 m + (1 - beta_1) d     v = v + d^2                              (adagrad)
                                      v = v - (1 - beta_2) d^2 sign(v - d^2)   (yogi)
                                      v = beta_2 v + (1 - beta_2) d^2          (adam)
    x = x + lr m / (sqrt(v) + tau),   d = mean of the clients' updates,  m = 0 and v = tau^2 initially

Unlike torch's Adam it has no bias correction, hence this implementation. `momentum` (FedAvgM, Hsu et al.,
2019) is torch's SGD with momentum 0.9, and `nesterov` the same with Nesterov's: the outer optimiser of DiLoCo
(Douillard et al., arXiv 2311.08105), there with rate 0.7.
"""

from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

from splitfl.core.state import State, copied, part, under

_BETA_1: Final = 0.9
_BETA_2: Final = 0.99
_TAU: Final = 1e-3


class Momentum:
    """Server SGD with momentum, or Nesterov's, by torch."""

    def __init__(self, lr: float, *, is_nesterov: bool = False) -> None:
        self.name = f"{'nesterov' if is_nesterov else 'momentum'} at {lr}"
        self._lr = lr
        self._is_nesterov = is_nesterov
        self._momentum: dict[str, Tensor] = {}

    def step(self, held: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The new tensors, from the current ones `held` and the clients' mean."""
        found = {}
        for name, value in mean.items():
            parameter = torch.nn.Parameter(held[name].clone())
            parameter.grad = held[name] - value
            optimiser = torch.optim.SGD(
                [parameter], lr=self._lr, momentum=_BETA_1, nesterov=self._is_nesterov
            )
            if name in self._momentum:
                optimiser.state[parameter]["momentum_buffer"] = self._momentum[name]
            optimiser.step()
            self._momentum[name] = optimiser.state[parameter]["momentum_buffer"]
            found[name] = parameter.detach()
        return found

    def state(self) -> State:
        return copied(self._momentum)

    def restore(self, state: State) -> None:
        self._momentum = {name: value.clone() for name, value in state.items()}


class Adaptive:
    """FedAdagrad, FedYogi and FedAdam, by `kind`."""

    def __init__(self, kind: str, lr: float) -> None:
        self.name = f"{kind} at {lr}"
        self._kind = kind
        self._lr = lr
        self._m: dict[str, Tensor] = {}
        self._v: dict[str, Tensor] = {}

    def step(self, held: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The new tensors, from the current ones `held` and the clients' mean."""
        found = {}
        for name, value in mean.items():
            move = value - held[name]
            m = self._m.setdefault(name, torch.zeros_like(move))
            v = self._v.setdefault(name, torch.full_like(move, _TAU**2))
            self._m[name] = m = _BETA_1 * m + (1 - _BETA_1) * move
            self._v[name] = v = self._second(v, move.square())
            found[name] = held[name] + self._lr * m / (v.sqrt() + _TAU)
        return found

    def state(self) -> State:
        return under("m", copied(self._m)) | under("v", copied(self._v))

    def restore(self, state: State) -> None:
        self._m, self._v = part(state, "m"), part(state, "v")

    def _second(self, v: Tensor, square: Tensor) -> Tensor:
        if self._kind == "adagrad":
            return v + square
        if self._kind == "yogi":
            return v - (1 - _BETA_2) * square * (v - square).sign()
        return _BETA_2 * v + (1 - _BETA_2) * square


ServerOptimiser = Momentum | Adaptive


def server_optimiser(kind: str, lr: float) -> ServerOptimiser | None:
    """The server optimiser of this name; None for `none`."""
    if kind == "none":
        return None
    if kind in ("momentum", "nesterov"):
        return Momentum(lr, is_nesterov=kind == "nesterov")
    return Adaptive(kind, lr)
