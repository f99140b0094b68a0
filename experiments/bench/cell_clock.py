"""The cell by the clock: how many users, how many transport blocks, how much CPU time.

Imports `channel` and nothing else that is large, so that a fresh process that runs this is `channel` by
itself: in a process that holds torch the same cell takes 3 % longer, for the garbage collector has more to
look through.
"""

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from channel.cell.build_cell import cell_of
from channel.scenario import load as scenario
from channel.scenario.load import Scenario

_SIMULATED_S = 2.0
_QUICK_USERS = 1_000
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


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


def block_rates(hand: Callable[[Any], None], users: int, grant_slots: int, sweeps: int) -> None:
    """Hands over blocks a second, a value a sweep; the first sweep only warms up."""
    made = many_users(users, grant_slots=grant_slots)
    counts = [timed(made, _SIMULATED_S) for _ in range(sweeps + 1)]
    hand([blocks / spent_s for blocks, spent_s in counts[1:]])


def costs_s(hand: Callable[[Any], None], users: int, duration_s: float, sweeps: int) -> None:
    """Hands over seconds for a simulated second, a value a sweep; cells that are quick warm up first."""
    made = many_users(users)
    if users <= _QUICK_USERS:
        timed(made, duration_s)
    hand([timed(made, duration_s)[1] / duration_s for _ in range(sweeps)])
