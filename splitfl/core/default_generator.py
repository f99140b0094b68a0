"""torch's default generator, for code of other packages that draws from it alone."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import torch

_LOCK: Final = threading.RLock()


@contextmanager
def default_generator(seed: int = 0, *, gpus: bool = False) -> Iterator[None]:
    """Seeds the default generators within the context, one thread at a time, and restores them afterwards.

    With `gpus` those of all GPUs too.
    """
    with _LOCK, torch.random.fork_rng(devices=None if gpus else ()):
        (torch.manual_seed if gpus else torch.default_generator.manual_seed)(seed)
        yield
