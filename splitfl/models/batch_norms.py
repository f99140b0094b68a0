"""Batch norms that learn: they normalise by their batch, and keep running statistics of all batches.

A batch norm is not a function of one sample, and its running statistics move with every
forward: what is learnt is therefore more than the parameters. Running statistics go where
the parameters go: they are sent, averaged (a count of batches rounded down) and kept with
them, under their names in the unsplit model. Models are measured with the running ones.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def batch_norms(model: nn.Module) -> tuple[str, ...]:
    """The names of all batch norms."""
    return tuple(name for name, part in model.named_modules() if isinstance(part, _BatchNorm))


@contextmanager
def by_batch(model: nn.Module, norms: Sequence[str]) -> Iterator[None]:
    """Here these batch norms normalise by their batch, which moves their running statistics."""
    modules = [model.get_submodule(name) for name in norms]
    try:
        for module in modules:
            module.train()
        yield
    finally:
        for module in modules:
            module.eval()


def tracked_in(model: nn.Module, norms: Sequence[str]) -> dict[str, Tensor]:
    """The running statistics of these batch norms by their names; writing into them is heard of."""
    return {f"{name}.{leaf}": model.get_buffer(f"{name}.{leaf}") for name in norms for leaf in _STATISTICS}
