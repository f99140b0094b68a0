"""Client-side gradient estimation without backpropagation (finite differences or forward mode).

Three estimators of the directional derivative v_p = <lambda, d f(theta) u_p> of a function f of the piece,
where lambda is the loss's gradient with respect to f (1 if f is the loss):

- `difference`: <lambda, f(theta + mu u_p) - f(theta)> / mu
- `central`: <lambda, f(theta + mu u_p) - f(theta - mu u_p)> / (2 mu)
- `jvp`: forward-mode differentiation, exact, without mu; a forward pass and its tangent

The mean of v_p u_p over P perturbations is an unbiased estimate of the gradient (for finite differences up
to terms of mu); its cosine with the gradient is about sqrt(P / (P + d)) for d parameters. No tensor is saved
for a backward pass.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from splitfl.accounting.flops import Cost, cost
from splitfl.adapters.inject import install
from splitfl.config import RunConfig, above, at_least, group, one_of
from splitfl.core.errors import ConfigError
from splitfl.core.messages import Adapter, Begin, Reply, Scalars
from splitfl.core.state import State, copied, number_in, part, under, whole
from splitfl.data.loader import Batches
from splitfl.methods.parts.directional_derivatives import central_difference, evaluate_at, forward_difference
from splitfl.methods.parts.forward_mode import Function, paths, refuse_fused_attention, tangent
from splitfl.methods.parts.perturbed_parameters import (
    Perturbation,
    ReplayableParameters,
    perturbed_parameters,
    values_of,
)
from splitfl.models.cut import Piece

_LEAST_MU = {"float32": 0.0, "bfloat16": 1e-3}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The gradient estimator of a client without backpropagation, from `perturbations` directions a step.

    The `derivative` along each is a forward `difference`, a `central` difference, both with `mu` per
    element, or exact, by forward-mode differentiation (`jvp`).
    """

    perturbations: int = 4
    mu: float = 1e-3
    derivative: str = "difference"

    def __post_init__(self) -> None:
        at_least("method.perturbations", self.perturbations, 1)
        above("method.mu", self.mu, 0.0)
        one_of("method.derivative", self.derivative, ("difference", "central", "jvp"))


@dataclass(frozen=True, kw_only=True)
class SlicedEstimate:
    """With `slices` a client perturbs its own share of the adapted modules, another one in every round.

    The estimate of fewer parameters is more accurate; each is then updated by one client's data alone.
    """

    estimate: Estimate = group(Estimate)
    slices: bool = False


class ZerothOrderClient:
    """A client's piece, its perturbed parameters and the directional derivatives of this round.

    Within a round the client applies its own derivatives only. At the start of the next round it returns
    to the parameters at the start of the last (`base`) and replays every client's steps in the server's
    order: clients at the same version have the same bits, whatever they computed or missed in between.
    """

    def __init__(
        self, piece: Piece, client: int, settings: Estimate, perturbed: ReplayableParameters
    ) -> None:
        """`perturbed` holds the piece's own trainable tensors."""
        self.piece = piece
        self.flops = 0.0
        self._client = client
        self._settings = settings
        self._perturbed = perturbed
        self.base = {name: value.clone() for name, value in perturbed.tensors.items()}
        self._version = 0
        self._round = 0
        self._derivatives: list[Tensor] = []
        self._costs: dict[tuple[int, ...], Cost] = {}
        self._paths = paths(piece)

    @classmethod
    def of(
        cls, piece: Piece, batches: Batches, config: RunConfig, settings: SlicedEstimate
    ) -> "ZerothOrderClient":
        """With the seed, aggregator and schedule of a run, the same on every node."""
        perturbed = perturbed_parameters(values_of(piece), config, is_sliced=settings.slices)
        return cls(piece, batches.client, settings.estimate, perturbed)

    def begin(self, round_index: int, messages: int) -> Begin:
        """The first message of a round, with the number of messages to follow and of the rounds replayed."""
        return Begin(steps=messages, version=self._version)

    def start_round(self, reply: Reply, round_index: int) -> None:
        """Returns to the start of the last round and applies the steps of all clients from the reply."""
        install(self.piece, self.base)
        if isinstance(reply, Scalars):
            self._version = self._perturbed.replay(reply, self._version)
        elif isinstance(reply, Adapter):
            install(self.piece, self._perturbed.load_extra_state(reply.tensors))
            self._version = reply.version
        self.mark_round_start(round_index)

    def mark_round_start(self, round_index: int) -> None:
        """Starts a round from the current values of the tensors."""
        self.base = {name: value.clone() for name, value in self._perturbed.tensors.items()}
        self._round, self._derivatives = round_index, []

    def evaluate(self, function: Function, shape: torch.Size) -> Tensor:
        """The function at the current parameters, without a graph."""
        self.flops += self.cost(shape).forward_flops
        with torch.no_grad():
            return function(self.piece)

    def evaluate_both_sides(self, function: Function, step: int, shape: torch.Size) -> Iterator[Tensor]:
        """The function at theta + mu u_p and theta - mu u_p, for each perturbation of this step."""
        for u in self._perturbations(step):
            for scale in (self._settings.mu, -self._settings.mu):
                yield evaluate_at(self._perturbed, u, scale, lambda: self.evaluate(function, shape))

    def step(self, function: Function, gradient: Tensor, value: Tensor, shape: torch.Size) -> None:
        """One step from a function with `value` at the current parameters and the loss's `gradient` to it."""
        step = len(self._derivatives)
        derivative = {"difference": self._difference, "central": self._central, "jvp": self._jvp}[
            self._settings.derivative
        ]
        changes = (derivative(function, u, value, shape) for u in self._perturbations(step))
        weighted = [(change.float() * gradient).sum(dtype=torch.float64) for change in changes]
        self.apply(torch.stack(weighted).float().cpu())

    def apply(self, derivatives_P: Tensor | None) -> None:
        """One step from directional derivatives (P,); None for a lost step, which counts as zeros."""
        step = len(self._derivatives)
        derivatives_P = torch.zeros(self._settings.perturbations) if derivatives_P is None else derivatives_P
        self._derivatives.append(derivatives_P)
        self._perturbed.step(self._client, self._round, step, derivatives_P)

    def upload(self, round_index: int, samples: int, losses: tuple[float, ...] = ()) -> Scalars:
        """The message with this round's directional derivatives (S, P)."""
        return Scalars(
            round=round_index,
            values=torch.stack(self._derivatives),
            steps=(len(self._derivatives),),
            samples=samples,
            losses=losses,
        )

    def take_flops(self) -> float:
        """FLOPs since the last call."""
        spent, self.flops = self.flops, 0.0
        return spent

    def state(self) -> State:
        """The parameters at the start of the last round, the extra state and the number of rounds."""
        held = under("base", copied(self.base)) | under("memory", copied(self._perturbed.extra_state()))
        return held | {"version": whole(self._version)}

    def restore(self, state: State) -> None:
        self._version = number_in(state, "version")
        self.base = part(state, "base")
        self._perturbed.load_extra_state(part(state, "memory"))

    def cost(self, shape: torch.Size) -> Cost:
        """FLOPs of one pass on a batch of this shape: (B, T), or (B, T, U) with answers."""
        if shape not in self._costs:
            self._costs[shape] = cost(self.piece, *shape)
        return self._costs[shape]

    def _perturbations(self, step: int) -> Iterator[Perturbation]:
        for perturbation in range(self._settings.perturbations):
            yield self._perturbed.draw(self._client, self._round, step, perturbation)

    def _difference(self, function: Function, u: Perturbation, value: Tensor, shape: torch.Size) -> Tensor:
        return forward_difference(
            self._perturbed, u, self._settings.mu, lambda: self.evaluate(function, shape), value
        )

    def _central(self, function: Function, u: Perturbation, value: Tensor, shape: torch.Size) -> Tensor:
        return central_difference(
            self._perturbed, u, self._settings.mu, lambda: self.evaluate(function, shape)
        )

    def _jvp(self, function: Function, u: Perturbation, value: Tensor, shape: torch.Size) -> Tensor:
        self.flops += 2 * self.cost(shape).forward_flops
        values = {self._paths[name]: self._perturbed.tensors[name] for name in u}
        return tangent(self.piece, function, values, {self._paths[name]: u[name] for name in u})[1]


def refuse_estimate(config: RunConfig, kind: str, num_blocks: int) -> None:
    """ConfigError for settings that gradient estimation does not support."""
    estimate = config.method.of(Estimate)
    if estimate.derivative == "jvp":
        refuse_fused_attention(config, kind, num_blocks)
    refuse_distance(config, None if estimate.derivative == "jvp" else estimate.mu)


def refuse_distance(config: RunConfig, mu: float | None) -> None:
    """ConfigError for a `mu` (None: forward mode) that vanishes in rounding, and for weight decay."""
    least = _LEAST_MU[config.model.dtype]
    if mu is not None and mu < least:
        raise ConfigError(
            f"method.mu must be at least {least} with model.dtype {config.model.dtype!r}, got {mu}: "
            "smaller perturbations vanish in its rounding; or set method.derivative to 'jvp'"
        )
    if config.train.weight_decay:
        raise ConfigError(
            f"train.weight_decay must be 0 with the method {config.method.name!r}, whose clients are "
            f"updated by directional derivatives only, got {config.train.weight_decay}"
        )
