"""Transport blocks a second of the whole radio chain: fading, interference, HARQ, proportional fair.

A transport block is one coded block on the air, to or from one user in one slot, tries that repeat an older
one included. The cell is the scenario urban-micro with a hundred users who always have something to send; its
making (tables, waves) is timed with it. CPU time of one thread.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from channel import scenario
from channel.building import cell_of
from channel.scenario import Scenario
from experiments.bench.fresh import Fresh, Hand
from experiments.bench.ratio import Figure, at_least
from experiments.bench.setting import Setting

USERS = 100
WANTED = 200_000.0
"""Transport blocks a second."""

_SIMULATED_S = 2.0
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


def cell(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Blocks a second over those wanted, with grants of one slot and of eight."""
    grants = (1,) if setting.is_quick else (1, 8)
    rates: dict[int, list[float]] = {}
    for grant_slots in grants:
        progress(f"grants of {grant_slots}")
        with one_thread(), Fresh(setting.folder / "cell.log", _time, grant_slots, setting.sweeps) as process:
            rates[grant_slots] = process.take()
            process.go()
    return [
        Figure(
            what=f"transport blocks/s, {USERS} users, grants of {grant_slots} / {WANTED:,.0f}",
            ratios=tuple(rate / WANTED for rate in found),
            target=at_least(1.0) if grant_slots == 1 else None,
        )
        for grant_slots, found in rates.items()
    ]


def many_users(users: int, *, grant_slots: int = 1) -> Scenario:
    """The street cell with so many users."""
    made = scenario.load("urban-micro")
    return replace(
        made,
        place=replace(made.place, users=users),
        link=replace(made.link, grant_slots=grant_slots),
    )


def timed(made: Scenario, duration_s: float) -> tuple[float, float]:
    """Transport blocks, and CPU seconds, of a new cell that runs so long."""
    start_s = time.process_time()
    result = cell_of(made).simulate(duration_s)
    spent_s = time.process_time() - start_s
    return float(sum(outcome.tries.sum() for outcome in result.outcomes.values())), spent_s


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes that are started meanwhile do their linear algebra in one thread."""
    before = {name: os.environ.get(name) for name in _THREADS}
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _time(hand: Hand, grant_slots: int, sweeps: int) -> None:
    """Hands over blocks a second, a value a sweep; the first sweep only warms up."""
    made = many_users(USERS, grant_slots=grant_slots)
    counts = [timed(made, _SIMULATED_S) for _ in range(sweeps + 1)]
    hand([blocks / spent_s for blocks, spent_s in counts[1:]])
