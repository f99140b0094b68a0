"""Transport blocks per second of the whole radio chain: fading, interference, HARQ, proportional fair.

A transport block is one coded block sent to or from one user in one slot; HARQ retransmissions count. The
cell is the scenario urban-micro with a hundred users with full buffers; its construction (tables, fading
waveforms) is timed too. CPU time of one thread.
"""

from collections.abc import Callable

from experiments.bench.cell_clock import block_rates, one_thread
from experiments.bench.fresh import Fresh
from experiments.bench.ratio import Figure, at_least
from experiments.bench.setting import Setting

USERS = 100
TARGET_RATE = 200_000.0
"""Transport blocks per second."""


def cell(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Blocks per second over TARGET_RATE, with grants of one slot and of eight slots."""
    grants = (1,) if setting.is_quick else (1, 8)
    rates: dict[int, list[float]] = {}
    for grant_slots in grants:
        progress(f"grants of {grant_slots}")
        log, sweeps = setting.folder / "cell.log", setting.sweeps
        with one_thread(), Fresh(log, block_rates, USERS, grant_slots, sweeps) as process:
            rates[grant_slots] = process.take()
            process.go()
    return [
        Figure(
            what=f"transport blocks/s, {USERS} users, grants of {grant_slots} / {TARGET_RATE:,.0f}",
            ratios=tuple(rate / TARGET_RATE for rate in found),
            target=at_least(1.0) if grant_slots == 1 else None,
        )
        for grant_slots, found in rates.items()
    ]
