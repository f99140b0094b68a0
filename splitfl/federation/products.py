"""The mean of the clients' products B A, exact or of low rank, computed from the factors.

Products are never formed: the clients' factors are concatenated, and compressed to reduce the
rank. The part that one A and B cannot represent is a residual (see residuals.py), which clients
add to their own.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from splitfl.adapters.residuals import RESIDUAL_A, RESIDUAL_B, A, B, compressed
from splitfl.core.messages import Adapter


def stacked(updates: Sequence[Adapter]) -> dict[str, Tensor]:
    """FLoRA (Wang et al., NeurIPS'24): the stacked factors, of rank sum of r_k, entirely as a residual.

    Exact for any ranks. Clients restart with B = 0 and keep their A; the paper draws a new A.
    """
    found = _means(_others(updates))
    for module in _modules(updates):
        factor_A, factor_B = _concatenated(updates, module)
        found |= {module + RESIDUAL_A: factor_A.float(), module + RESIDUAL_B: factor_B.float()}
    return found


def fedex(updates: Sequence[Adapter]) -> dict[str, Tensor]:
    """FedEx-LoRA (Singhal et al., ACL'25): the means of A and B, and the error of their product.

    The error, a residual, is sum of p_k (B_k - mean B) (A_k - mean A), of rank at most (K - 1) r.
    """
    means = _means(updates)
    found = dict(means)
    for module in _modules(updates):
        mean_A, mean_B = (_mean([(one, one.tensors[module + end]) for one in updates]) for end in (A, B))
        own_A, own_B = _concatenated(updates, module)
        factor_A, factor_B = torch.cat([own_A, mean_A]), torch.cat([own_B, -mean_B], dim=1)
        factor_A, factor_B = compressed(factor_A, factor_B)
        found |= {module + RESIDUAL_A: factor_A, module + RESIDUAL_B: factor_B}
    return found


def truncated(updates: Sequence[Adapter]) -> dict[str, Tensor]:
    """FlexLoRA (Bai et al., NeurIPS'24): the best approximation of the largest client's rank, by SVD.

    Its first r rows and columns are the best approximation of rank r, for clients of lower rank.
    """
    found = _means(_others(updates))
    for module in _modules(updates):
        rank = max(one.tensors[module + A].shape[0] for one in updates)
        factor_A, factor_B = compressed(*_concatenated(updates, module), rank)
        missing = rank - len(factor_A)
        found[module + A] = torch.nn.functional.pad(factor_A, (0, 0, 0, missing))
        found[module + B] = torch.nn.functional.pad(factor_B, (0, missing))
    return found


def _modules(updates: Sequence[Adapter]) -> list[str]:
    names = {name.removesuffix(A): None for one in updates for name in one.tensors if name.endswith(A)}
    return list(names)


def _others(updates: Sequence[Adapter]) -> Iterator[tuple[str, list[tuple[Adapter, Tensor]]]]:
    return ((name, held) for name, held in _held(updates) if not name.endswith((A, B)))


def _held(updates: Sequence[Adapter]) -> Iterator[tuple[str, list[tuple[Adapter, Tensor]]]]:
    names = dict.fromkeys(name for one in updates for name in one.tensors)
    for name in names:
        yield name, [(one, one.tensors[name]) for one in updates if name in one.tensors]


def _means(held: Sequence[Adapter] | Iterator[tuple[str, list[tuple[Adapter, Tensor]]]]) -> dict[str, Tensor]:
    pairs = _held(held) if isinstance(held, Sequence) else held
    return {name: _mean(each).to(each[0][1].dtype) for name, each in pairs}


def _mean(held: Sequence[tuple[Adapter, Tensor]]) -> Tensor:
    """The mean weighted by samples, in float64."""
    samples = sum(one.samples for one, _ in held)
    return sum((tensor.double() * one.samples for one, tensor in held), torch.zeros(())) / samples


def _concatenated(updates: Sequence[Adapter], module: str) -> tuple[Tensor, Tensor]:
    """(sum of r_k, in) and (out, sum of r_k), whose product is the weighted mean of products; float64."""
    samples = sum(one.samples for one in updates)
    factors_A = [one.tensors[module + A].double() for one in updates]
    factors_B = [one.tensors[module + B].double() * (one.samples / samples) for one in updates]
    return torch.cat(factors_A), torch.cat(factors_B, dim=1)
