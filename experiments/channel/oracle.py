"""Row 20 of the conformance table: block error rates against Sionna's tables, if it is installed."""

from importlib.util import find_spec

import numpy as np

from channel.phy.block_error import BlockErrorLaw
from channel.phy.mcs import mcs_table
from channel.validation import Check, NotRunHere


def _largest_gap_db() -> float:
    """Largest SNR gap in dB at 10 % BLER of 1,000-bit blocks over MCS 3 to 28 (Sionna has none below)."""
    if find_spec("sionna") is None:
        raise NotRunHere("needs sionna-no-rt: pip install 'splitfl[oracle]'")
    import torch
    from sionna.sys import PHYAbstraction

    ours_db = BlockErrorLaw.of(mcs_table("64qam")).threshold_db(target=0.1, bits=1000.0)
    grid_db = np.arange(-4.0, 29.0, 0.1)
    ratio = torch.tensor(10.0 ** (grid_db / 10.0), dtype=torch.float32)
    tables, gaps_db = PHYAbstraction(), []
    for mcs in range(3, 29):
        rates = tables.get_bler(mcs, 1, 1, 1000, ratio).numpy()
        gaps_db.append(abs(float(grid_db[np.argmax(rates < 0.1)] - ours_db[mcs])))
    return max(gaps_db)


CHECKS: tuple[Check, ...] = (
    Check(
        row="20",
        what="largest gap to Sionna's tables, MCS 3 to 28, dB (their grid has 1.8 dB)",
        expected=0.0,
        tolerance=0.8,
        measure=_largest_gap_db,
        is_quick=False,
    ),
)
