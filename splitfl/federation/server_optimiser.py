"""Server optimisers, which use the clients' mean update as a pseudo-gradient (Reddi et al., ICLR'21).

Algorithm 2 of the paper, with its recommended beta_1 = 0.9, beta_2 = 0.99 and tau = 1e-3:

    m = beta_1 m + (1 - beta_1) d     v = v + d^2                              (adagrad)
                                      v = v - (1 - beta_2) d^2 sign(v - d^2)   (yogi)
                                      v = beta_2 v + (1 - beta_2) d^2          (adam)
    x = x + lr m / (sqrt(v) + tau),   d = mean of the clients' updates,  m = 0 and v = tau^2 initially

Unlike torch's Adam it has no bias correction, hence this implementation. `momentum` (FedAvgM, Hsu et al.,
2019) is torch's SGD with momentum 0.9, and `nesterov` the same with Nesterov's: the outer optimiser of DiLoCo
(Douillard et al., arXiv 2311.08105), there with rate 0.7.

Momentum that is applied to every stale update is what makes asynchronous local SGD diverge. Delayed Nesterov
(Liu et al., arXiv 2401.09135, Algorithm 3) moves it once in N updates. With the pseudo-gradients g = -d,
counted from t = 1:

    b = b + g
    N divides t:  m = beta m + b / N,  x = x - lr ((1 - c N + c) beta m + g / N),  b = 0
    else:         x = x - lr (c beta m + g / N)

N = 1 is Nesterov's momentum. Since g is divided by N, HALoS (arXiv 2506.04531) multiplies its rates by N.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from splitfl.config import above, at_least, one_of
from splitfl.core.errors import ConfigError
from splitfl.core.state import State, copied, number_in, part, under, whole

_BETA_1: Final = 0.9
_BETA_2: Final = 0.99
_TAU: Final = 1e-3


class Momentum:
    """Server SGD by torch, with momentum, Nesterov's, or none."""

    def __init__(self, lr: float, momentum: float = _BETA_1, *, is_nesterov: bool = False) -> None:
        self.name = f"{'nesterov' if is_nesterov else 'momentum'} {momentum} at {lr}"
        self._lr = lr
        self._share = momentum
        self._is_nesterov = is_nesterov
        self._momentum: dict[str, Tensor] = {}

    def step(self, held: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The new tensors, from the current ones `held` and the clients' mean."""
        found = {}
        for name, value in mean.items():
            parameter = torch.nn.Parameter(held[name].clone())
            parameter.grad = held[name] - value
            optimiser = torch.optim.SGD(
                [parameter], lr=self._lr, momentum=self._share, nesterov=self._is_nesterov
            )
            if name in self._momentum:
                optimiser.state[parameter]["momentum_buffer"] = self._momentum[name]
            optimiser.step()
            if self._share:
                self._momentum[name] = optimiser.state[parameter]["momentum_buffer"]
            found[name] = parameter.detach()
        return found

    def state(self) -> State:
        return copied(self._momentum)

    def restore(self, state: State) -> None:
        self._momentum = {name: value.clone() for name, value in state.items()}


class DelayedNesterov:
    """Nesterov's momentum moved once in `every` (N) updates; a share c of it is applied in the others."""

    def __init__(self, lr: float, momentum: float, every: int, share: float) -> None:
        self.name = f"delayed-nesterov {momentum} / {every} / {share} at {lr}"
        self._lr = lr
        self._beta = momentum
        self._every = every
        self._share = share
        self._updates = 0
        self._sums: dict[str, Tensor] = {}
        self._momentum: dict[str, Tensor] = {}

    def step(self, held: Mapping[str, Tensor], mean: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The new tensors, from the current ones `held` and the clients' mean."""
        self._updates += 1
        is_due, found = self._updates % self._every == 0, {}
        share = 1.0 - self._share * self._every + self._share if is_due else self._share
        for name, value in mean.items():
            gradient = held[name] - value
            summed = self._sums.pop(name, 0.0) + gradient
            momentum = self._momentum.get(name, torch.zeros_like(gradient))
            if is_due:
                self._momentum[name] = momentum = self._beta * momentum + summed / self._every
            else:
                self._sums[name] = summed
            step = share * self._beta * momentum + gradient / self._every
            found[name] = held[name] - self._lr * step
        return found

    def state(self) -> State:
        sums, momentum = under("sum", copied(self._sums)), under("momentum", copied(self._momentum))
        return {**sums, **momentum, "updates": whole(self._updates)}

    def restore(self, state: State) -> None:
        self._sums, self._momentum = part(state, "sum"), part(state, "momentum")
        self._updates = number_in(state, "updates")


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


ServerOptimiser = Momentum | DelayedNesterov | Adaptive


def server_optimiser(kind: str, lr: float) -> ServerOptimiser | None:
    """The server optimiser of this name; None for `none`."""
    if kind == "none":
        return None
    if kind in ("momentum", "nesterov"):
        return Momentum(lr, is_nesterov=kind == "nesterov")
    return Adaptive(kind, lr)


_READ_WITH: Final[Mapping[str, tuple[str, ...]]] = {
    "outer_momentum": ("nesterov", "delayed-nesterov"),
    "outer_every": ("delayed-nesterov",),
    "outer_share": ("delayed-nesterov",),
}
"""The settings of an outer optimiser that only some read."""


@dataclass(frozen=True, kw_only=True)
class OuterOptimiser:
    """The optimiser of outer gradients: clients' tensors before a round minus those after, on average.

    `outer_optimiser` is `sgd`, `nesterov`, `delayed-nesterov` or `adam` (FedAdam: without bias correction)
    with the rate `outer_lr`; `sgd` with rate 1 is the mean of the clients' tensors. `outer_momentum` is that
    of the two Nesterovs. Delayed Nesterov moves its momentum once in `outer_every` updates, and applies the
    share `outer_share` of it, at most 1 / `outer_every`, in each of the others.
    """

    outer_optimiser: str = "nesterov"
    outer_lr: float = 0.7
    outer_momentum: float = 0.9
    outer_every: int = 1
    outer_share: float = 0.0

    def __post_init__(self) -> None:
        one_of(
            "method.outer_optimiser", self.outer_optimiser, ("sgd", "nesterov", "delayed-nesterov", "adam")
        )
        above("method.outer_lr", self.outer_lr, 0.0)
        if not 0.0 < self.outer_momentum < 1.0:
            raise ConfigError(
                f"method.outer_momentum must lie in (0, 1), got {self.outer_momentum}; "
                "method.outer_optimiser 'sgd' has none"
            )
        at_least("method.outer_every", self.outer_every, 1)
        if not 0.0 <= self.outer_share <= 1.0 / self.outer_every:
            raise ConfigError(
                f"method.outer_share must lie in [0, 1 / {self.outer_every}] with method.outer_every "
                f"{self.outer_every}, got {self.outer_share}"
            )
        for key, readers in _READ_WITH.items():
            got, default = getattr(self, key), getattr(OuterOptimiser, key)
            if got != default and self.outer_optimiser not in readers:
                able = " and ".join(map(repr, readers))
                raise ConfigError(
                    f"method.{key} is read only with method.outer_optimiser {able}: leave it at {default}, "
                    f"got {got}"
                )

    @property
    def has_momentum(self) -> bool:
        """Whether it remembers earlier outer gradients."""
        return self.outer_optimiser != "sgd"

    def made(self) -> ServerOptimiser:
        """A new optimiser of these settings."""
        match self.outer_optimiser:
            case "sgd":
                return Momentum(self.outer_lr, 0.0)
            case "nesterov":
                return Momentum(self.outer_lr, self.outer_momentum, is_nesterov=True)
            case "delayed-nesterov":
                return DelayedNesterov(self.outer_lr, self.outer_momentum, self.outer_every, self.outer_share)
        return Adaptive("adam", self.outer_lr)
