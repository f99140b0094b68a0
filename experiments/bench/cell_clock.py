"""CPU time of simulated cells, by number of users and of transport blocks.

Imports no large package but `channel`, so that a fresh process measures `channel` alone: in a process that
has imported torch the same cell takes 3 % longer, since the garbage collector scans more objects.
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
    """The scenario urban-micro with this number of users and slots per grant."""
    made = scenario.load("urban-micro")
    return replace(
        made,
        place=replace(made.place, users=users),
        link=replace(made.link, grant_slots=grant_slots),
    )


def timed(made: Scenario, duration_s: float) -> tuple[float, float]:
    """Transport blocks and CPU seconds of a new cell simulated for `duration_s`."""
    start_s = time.process_time()
    result = cell_of(made).simulate(duration_s)
    spent_s = time.process_time() - start_s
    return float(sum(outcome.tries.sum() for outcome in result.outcomes.values())), spent_s


@contextmanager
def one_thread() -> Iterator[None]:
    """Processes started in this context use one thread for linear algebra."""
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
    """Sends blocks per second, one value a sweep, after a warm-up sweep."""
    made = many_users(users, grant_slots=grant_slots)
    counts = [timed(made, _SIMULATED_S) for _ in range(sweeps + 1)]
    hand([blocks / spent_s for blocks, spent_s in counts[1:]])


def costs_s(hand: Callable[[Any], None], users: int, duration_s: float, sweeps: int) -> None:
    """Sends CPU seconds per simulated second, one value a sweep; small cells are warmed up first."""
    made = many_users(users)
    if users <= _QUICK_USERS:
        timed(made, duration_s)
    hand([timed(made, duration_s)[1] / duration_s for _ in range(sweeps)])
