"""Named random streams: a new consumer never shifts the draws of another."""

import hashlib

import numpy as np


def stream(seed: int, *names: str | int) -> np.random.Generator:
    """An independent generator for this seed and this name.

    The key of the Philox counter generator (Salmon et al., SC'11) is a hash of the
    seed and of every name with its type, so `stream(0, "a", 1)`, `stream(0, "a", "1")`
    and `stream(0, "a1")` share nothing, and no arithmetic on seeds can make two collide.
    """
    digest = hashlib.blake2b(repr((int(seed), *names)).encode(), digest_size=16).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(digest, "little")))
