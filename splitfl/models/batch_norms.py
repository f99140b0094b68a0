"""Batch norms in training mode, which normalise by batch statistics and update running statistics.

Running statistics change in every forward pass, so they are part of the trained state: they are
sent, averaged (the count of batches rounded down) and saved with the parameters, under their
names in the unsplit model. Evaluation uses the running statistics.
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
    """Puts these batch norms into training mode within the context."""
    modules = [model.get_submodule(name) for name in norms]
    try:
        for module in modules:
            module.train()
        yield
    finally:
        for module in modules:
            module.eval()


def tracked_in(model: nn.Module, norms: Sequence[str]) -> dict[str, Tensor]:
    """The running statistics of these batch norms by name, as views: writes change the model."""
    return {f"{name}.{leaf}": model.get_buffer(f"{name}.{leaf}") for name in norms for leaf in _STATISTICS}
