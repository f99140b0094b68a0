"""Finite differences along a perturbation, from function values alone: no graph, nothing saved."""

from collections.abc import Callable

from torch import Tensor

from splitfl.methods.parts.perturbed_parameters import Perturbation, ReplayableParameters

Evaluation = Callable[[], Tensor]
"""Evaluates the function at the current values of its tensors, without a graph."""


def evaluate_at(
    perturbed: ReplayableParameters, u: Perturbation, scale: float, evaluate: Evaluation
) -> Tensor:
    """The function at theta + scale * u; restores theta bit for bit."""
    saved = {name: perturbed.tensors[name].clone() for name in u}
    perturbed.move(u, scale)
    result = evaluate()
    for name, value in saved.items():  # subtracting scale * u would round
        perturbed.tensors[name].copy_(value)
    return result


def forward_difference(
    perturbed: ReplayableParameters, u: Perturbation, mu: float, evaluate: Evaluation, value: Tensor
) -> Tensor:
    """(f(theta + mu u) - f(theta)) / mu in float32, given `value` = f(theta)."""
    return (evaluate_at(perturbed, u, mu, evaluate).float() - value.float()) / mu


def central_difference(
    perturbed: ReplayableParameters, u: Perturbation, mu: float, evaluate: Evaluation
) -> Tensor:
    """(f(theta + mu u) - f(theta - mu u)) / (2 mu) in float32."""
    above, below = (evaluate_at(perturbed, u, scale, evaluate).float() for scale in (mu, -mu))
    return (above - below) / (2 * mu)
