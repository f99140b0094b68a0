"""Compilation of functions by numba, with a cache on disk."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from channel.coding.extra import MissingNumba

try:
    from numba import njit
except ImportError:
    raise MissingNumba("coding of packets") from None

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def compiled(function: Kernel) -> Kernel:
    """Applies numba's njit and keeps the type hints.

    Other threads run during a call. The machine code is cached beside the source file, or in the user's cache
    folder where that one is not writable.
    """
    return cast(Kernel, njit(cache=True, nogil=True)(function))
