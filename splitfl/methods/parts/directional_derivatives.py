"""By how much a function changes along a direction, from values alone: no graph, nothing saved."""

from collections.abc import Callable

from torch import Tensor

from splitfl.methods.parts.perturbed_parameters import Perturbation, ReplayableParameters

Evaluation = Callable[[], Tensor]
"""The function where its tensors stand now, with no graph."""


def evaluate_at(
    perturbed: ReplayableParameters, u: Perturbation, scale: float, evaluate: Evaluation
) -> Tensor:
    """The function at theta + scale * u; the tensors stand afterwards where they stood."""
    here = {name: perturbed.tensors[name].clone() for name in u}
    perturbed.move(u, scale)
    found = evaluate()
    for name, value in here.items():  # moving back would round, so what was there is put back
        perturbed.tensors[name].copy_(value)
    return found


def forward_difference(
    perturbed: ReplayableParameters, u: Perturbation, mu: float, evaluate: Evaluation, value: Tensor
) -> Tensor:
    """(f(theta + mu u) - f(theta)) / mu, with `rest` for f(theta)."""
    return (evaluate_at(perturbed, u, mu, evaluate).float() - value.float()) / mu


def central_difference(
    perturbed: ReplayableParameters, u: Perturbation, mu: float, evaluate: Evaluation
) -> Tensor:
    """(f(theta + mu u) - f(theta - mu u)) / (2 mu)."""
    above, below = (evaluate_at(perturbed, u, scale, evaluate).float() for scale in (mu, -mu))
    return (above - below) / (2 * mu)
