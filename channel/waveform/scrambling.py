"""The fixed pseudo-random bits that scramble the payload and give the pilots their signs."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SKIPPED = 1600
_PERIOD = 32_768
_STEP = 28
"""Both registers look back at least this far, so that as many bits are computed at once."""
_SCRAMBLING, _PILOTS = 0x5F11, 0x0D44
"""Initial values of the second register: any two numbers."""


@lru_cache(maxsize=16)
def scrambling_bits(count: int) -> NDArray[np.uint8]:
    """The first `count` scrambling bits, read-only; they repeat after 32,768."""
    bits = np.resize(_gold(_SCRAMBLING), count)
    bits.flags.writeable = False
    return bits


@lru_cache(maxsize=16)
def scrambling_signs(count: int) -> NDArray[np.float32]:
    """The scrambling bits as 1 for 0 and -1 for 1."""
    return (1.0 - 2.0 * scrambling_bits(count)).astype(np.float32)


@lru_cache(maxsize=16)
def pilot_signs(symbols: int, pilots: int) -> NDArray[np.float32]:
    """The values 1 or -1 of the pilots (symbols, pilots)."""
    bits = np.resize(_gold(_PILOTS), symbols * pilots)
    return (1.0 - 2.0 * bits.reshape(symbols, pilots)).astype(np.float32)


@lru_cache
def _gold(initial: int) -> NDArray[np.uint8]:
    """The length-31 Gold sequence of 3GPP TS 38.211 (V16) clause 5.2.1."""
    length = _SKIPPED + _PERIOD
    first, second = np.zeros((2, length + 31 + _STEP), dtype=np.uint8)
    first[0] = 1
    second[:31] = (initial >> np.arange(31)) & 1
    for n in range(0, length, _STEP):
        end = n + _STEP
        first[n + 31 : end + 31] = first[n + 3 : end + 3] ^ first[n:end]
        second[n + 31 : end + 31] = (
            second[n + 3 : end + 3] ^ second[n + 2 : end + 2] ^ second[n + 1 : end + 1] ^ second[n:end]
        )
    bits: NDArray[np.uint8] = first[_SKIPPED:length] ^ second[_SKIPPED:length]
    return bits
