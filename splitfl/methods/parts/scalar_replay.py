"""Replays that this process has made already: where it plays several clients, all make the same steps.

From the same bits the same steps lead to the same bits, so whoever comes second is handed the first one's.
"""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

import torch
from torch import Tensor

_MOST: Final = 2


class Replays:
    """The last few ends of replays by what they began from and were made of."""

    def __init__(self) -> None:
        self._ends: OrderedDict[bytes, dict[str, Tensor]] = OrderedDict()
        self._lock = threading.Lock()

    def found(self, key: bytes) -> Mapping[str, Tensor] | None:
        """Where such a replay ended; what is found must not be changed."""
        with self._lock:
            return self._ends.get(key)

    def keep(self, key: bytes, end: Mapping[str, Tensor]) -> None:
        """Keeps a copy of where a replay ended, and forgets the oldest."""
        with self._lock:
            self._ends[key] = {name: value.detach().clone() for name, value in end.items()}
            while len(self._ends) > _MOST:
                self._ends.popitem(last=False)


def key_of(tensors: Mapping[str, Tensor], *settings: object) -> bytes:
    """A digest of these settings and of every name, type, place and bit of these tensors."""
    digest = hashlib.blake2b(repr(settings).encode())
    for name, value in tensors.items():
        digest.update(repr((name, value.dtype, value.device, tuple(value.shape))).encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.digest()
