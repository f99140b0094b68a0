"""Monte Carlo simulation of the block error rate of 5G NR's LDPC codes over AWGN.

Every chunk of blocks has its own random stream, named after scheme, length, SNR and chunk index, so its
result does not depend on the order or process in which it is simulated.
"""

from dataclasses import dataclass

import numpy as np

from channel.coding.code import Code
from channel.coding.extra import require_numba
from channel.coding.qam import pam_levels
from channel.core.rng import stream
from channel.core.units import db_to_ratio

CHUNK = 250
"""Blocks per random stream."""
ITERATIONS = 20


@dataclass(frozen=True, order=True)
class BlerCurve:
    """A simulated BLER curve: a scheme, and the bits of its code blocks."""

    modulation_order: int
    code_rate_1024: float
    bits: int

    def code(self) -> Code:
        """The LDPC code of this curve."""
        return Code.of(
            modulation_order=self.modulation_order, code_rate=self.code_rate_1024 / 1024.0, bits=self.bits
        )

    def __str__(self) -> str:
        name = {2: "QPSK", 4: "16QAM", 6: "64QAM", 8: "256QAM"}[self.modulation_order]
        return f"{name} {self.code_rate_1024:g}/1024, {self.bits} bits"


def chunk_failures(curve: BlerCurve, code: Code, snr_db: float, *, seed: int, chunk: int) -> int:
    """The number of failed blocks of one chunk at an E_s/N0 of `snr_db`, a multiple of 0.01.

    Random bits are encoded, rate-matched, modulated, sent over AWGN, demapped exactly and decoded by layered
    min-sum (factor 3/4, at most ITERATIONS); a block fails if any information bit is wrong.
    Raises MissingNumba without numba.
    """
    require_numba("simulating codes")
    from channel.calibration.kernels import failures

    order = curve.modulation_order
    name = (order, str(curve.code_rate_1024), curve.bits, round(100 * snr_db))
    rng = stream(seed, "block error", *name, chunk)
    information = rng.integers(0, 2, (CHUNK, curve.bits), dtype=np.uint8)
    noise = rng.standard_normal((CHUNK, 2 * code.sent_E.size // order))
    return failures(
        code.graph,
        code.sent_E,
        order,
        pam_levels(order),
        1.0 / db_to_ratio(snr_db),
        information,
        noise,
        ITERATIONS,
    )
