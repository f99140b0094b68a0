"""By how much a function changes along a direction, from values alone: no graph, nothing saved."""

from collections.abc import Callable

from torch import Tensor

from splitfl.methods.parts.perturbed_parameters import Directions, Steps

Look = Callable[[], Tensor]
"""The function where its tensors stand now, with no graph."""


def beside(walk: Steps, u: Directions, scale: float, look: Look) -> Tensor:
    """The function at theta + scale * u; the tensors stand afterwards where they stood."""
    here = {name: walk.tensors[name].clone() for name in u}
    walk.move(u, scale)
    found = look()
    for name, value in here.items():  # moving back would round, so what was there is put back
        walk.tensors[name].copy_(value)
    return found


def difference(walk: Steps, u: Directions, mu: float, look: Look, rest: Tensor) -> Tensor:
    """(f(theta + mu u) - f(theta)) / mu, with `rest` for f(theta)."""
    return (beside(walk, u, mu, look).float() - rest.float()) / mu


def central(walk: Steps, u: Directions, mu: float, look: Look) -> Tensor:
    """(f(theta + mu u) - f(theta - mu u)) / (2 mu)."""
    above, below = (beside(walk, u, scale, look).float() for scale in (mu, -mu))
    return (above - below) / (2 * mu)
