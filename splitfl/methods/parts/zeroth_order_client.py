"""A client's piece that learns without backpropagation: by how much the loss changes along directions.

Three ways to the slope v_p = <lambda, d f(theta) u_p> of a function f of the piece, where
lambda is the loss's gradient with respect to f (1 where f is the loss itself):

- `difference`: <lambda, f(theta + mu u_p) - f(theta)> / mu
- `central`: <lambda, f(theta + mu u_p) - f(theta - mu u_p)> / (2 mu)
- `jvp`: forward-mode differentiation, exact, without mu; a forward pass and its tangent

mean of v_p u_p over P directions is an unbiased estimate of the gradient whose cosine
with it is sqrt(P / (P + d)) for d parameters. Nothing is saved for a backward pass.
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
from splitfl.methods.parts.directional_derivatives import beside, central, difference
from splitfl.methods.parts.forward_mode import Function, paths, refuse_fused_attention, tangent
from splitfl.methods.parts.perturbed_parameters import Directions, Steps, values_of, walk
from splitfl.models.cut import Piece

_LEAST_MU = {"float32": 0.0, "bfloat16": 1e-3}


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """How a client without backpropagation estimates a gradient: along `perturbations` directions a step.

    The derivative along each is a `difference` to where it stands or a `central` one, both over a distance
    of `mu` an element, or exact, by forward mode (`jvp`).
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
    """With `slices` directions are of the client's own share of the adapted modules, another in every round.

    That is a better estimate of fewer parameters, each of which then moves by one client's weight alone.
    """

    estimate: Estimate = group(Estimate)
    slices: bool = False


class ZerothOrderClient:
    """A client's piece, its walk and the slopes of this round.

    Within a round the client walks by its own slopes alone. When the next one begins it
    goes back to where the round began, and from there makes every client's steps in the
    order in which the server makes them: all who have heard of the same rounds hold the
    same bits, whatever they did or missed in between.
    """

    def __init__(self, piece: Piece, client: int, settings: Estimate, walk: Steps) -> None:
        """`walk` moves the piece's own trainable tensors."""
        self.piece = piece
        self.flops = 0.0
        self._client = client
        self._settings = settings
        self._walk = walk
        self.base = {name: value.clone() for name, value in walk.tensors.items()}
        self._version = 0
        self._round = 0
        self._slopes: list[Tensor] = []
        self._costs: dict[tuple[int, int], Cost] = {}
        self._paths = paths(piece)

    @classmethod
    def of(
        cls, piece: Piece, batches: Batches, config: RunConfig, settings: SlicedEstimate
    ) -> "ZerothOrderClient":
        """Of a run: along the directions that every node of it draws alike."""
        moving = walk(values_of(piece), config, is_sliced=settings.slices)
        return cls(piece, batches.client, settings.estimate, moving)

    def begin(self, round_index: int, messages: int) -> Begin:
        """Asks to begin a round of so many further messages, naming the rounds already seen."""
        return Begin(steps=messages, version=self._version)

    def enter(self, reply: Reply, round_index: int) -> None:
        """Back to where the last round began, then on to what all clients have made of it."""
        install(self.piece, self.base)
        if isinstance(reply, Scalars):
            self._version = self._walk.replay(reply, self._version)
        elif isinstance(reply, Adapter):
            install(self.piece, self._walk.remember(reply.tensors))
            self._version = reply.version
        self.start(round_index)

    def start(self, round_index: int) -> None:
        """A round begins from where the tensors stand."""
        self.base = {name: value.clone() for name, value in self._walk.tensors.items()}
        self._round, self._slopes = round_index, []

    def run(self, function: Function, shape_BT: torch.Size) -> Tensor:
        """The function where the client stands, with no graph."""
        self.flops += self.cost(shape_BT).forward_flops
        with torch.no_grad():
            return function(self.piece)

    def around(self, function: Function, step: int, shape_BT: torch.Size) -> Iterator[Tensor]:
        """The function at theta + mu u_p and theta - mu u_p, for each direction of this step in turn."""
        for directions in self._directions(step):
            for scale in (self._settings.mu, -self._settings.mu):
                yield beside(self._walk, directions, scale, lambda: self.run(function, shape_BT))

    def learn(self, function: Function, gradient: Tensor, rest: Tensor, shape_BT: torch.Size) -> None:
        """One step down the slopes of a function, which is `rest` where the client stands."""
        step = len(self._slopes)
        slope = {"difference": self._difference, "central": self._central, "jvp": self._jvp}[
            self._settings.derivative
        ]
        changes = (slope(function, u, rest, shape_BT) for u in self._directions(step))
        weighed = [(change.float() * gradient).sum(dtype=torch.float64) for change in changes]
        self.follow(torch.stack(weighed).float().cpu())

    def follow(self, slopes_P: Tensor | None) -> None:
        """One step down slopes found elsewhere; None is a step that was lost."""
        step = len(self._slopes)
        found = torch.zeros(self._settings.perturbations) if slopes_P is None else slopes_P
        self._slopes.append(found)
        self._walk.step(self._client, self._round, step, found)

    def upload(self, round_index: int, samples: int, losses: tuple[float, ...] = ()) -> Scalars:
        """This round's slopes (S, P)."""
        return Scalars(
            round=round_index,
            values=torch.stack(self._slopes),
            steps=(len(self._slopes),),
            samples=samples,
            losses=losses,
        )

    def take_flops(self) -> float:
        """FLOPs since this was last asked."""
        spent, self.flops = self.flops, 0.0
        return spent

    def state(self) -> State:
        """Where the last round began, to which the next one goes back first, and how many it has seen."""
        held = under("base", copied(self.base)) | under("memory", copied(self._walk.memory()))
        return held | {"version": whole(self._version)}

    def restore(self, state: State) -> None:
        """See Stateful."""
        self._version = number_in(state, "version")
        self.base = part(state, "base")
        self._walk.remember(part(state, "memory"))

    def cost(self, shape_BT: torch.Size) -> Cost:
        """FLOPs of one pass on (B, T) tokens."""
        shape = (shape_BT[0], shape_BT[1])
        if shape not in self._costs:
            self._costs[shape] = cost(self.piece, *shape)
        return self._costs[shape]

    def _directions(self, step: int) -> Iterator[Directions]:
        for perturbation in range(self._settings.perturbations):
            yield self._walk.draw(self._client, self._round, step, perturbation)

    def _difference(self, function: Function, u: Directions, rest: Tensor, shape_BT: torch.Size) -> Tensor:
        return difference(self._walk, u, self._settings.mu, lambda: self.run(function, shape_BT), rest)

    def _central(self, function: Function, u: Directions, rest: Tensor, shape_BT: torch.Size) -> Tensor:
        return central(self._walk, u, self._settings.mu, lambda: self.run(function, shape_BT))

    def _jvp(self, function: Function, u: Directions, rest: Tensor, shape_BT: torch.Size) -> Tensor:
        self.flops += 2 * self.cost(shape_BT).forward_flops
        values = {self._paths[name]: self._walk.tensors[name] for name in u}
        return tangent(self.piece, function, values, {self._paths[name]: u[name] for name in u})[1]


def refuse_estimate(config: RunConfig, kind: str, num_blocks: int) -> None:
    """Refuses what a client without backpropagation cannot do; ConfigError."""
    estimate = config.method.of(Estimate)
    if estimate.derivative == "jvp":
        refuse_fused_attention(config, kind, num_blocks)
    refuse_distance(config, None if estimate.derivative == "jvp" else estimate.mu)


def refuse_distance(config: RunConfig, mu: float | None) -> None:
    """ConfigError for moves of `mu` that vanish in rounding, and for what slopes cannot have."""
    least = _LEAST_MU[config.model.dtype]
    if mu is not None and mu < least:
        raise ConfigError(
            f"method.mu must be at least {least} with model.dtype {config.model.dtype!r}, got {mu}: "
            "smaller moves vanish in its rounding; or take method.derivative 'jvp'"
        )
    if config.train.weight_decay:
        raise ConfigError(
            f"train.weight_decay must be 0 with the method {config.method.name!r}, whose clients follow "
            f"slopes alone, got {config.train.weight_decay}"
        )
