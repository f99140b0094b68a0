"""Contestants whose training blocks are interleaved, so that background load affects all alike.

Each contestant runs in its own process (with child processes, if any) and is idle while
another is timed. Its first block is a warm-up and not counted.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

import psutil
import torch

from experiments.bench.fresh import BenchError, Fresh, Hand
from experiments.bench.setting import Setting
from splitfl.core.allocator import keep_freed_memory

Rest = Callable[[float], None]
"""Ends a block with its mean training loss; returns when the next one may begin."""

_SAME_LOSS = 1e-4
_START_AT_ONCE = 3


class Training(Protocol):
    """A contestant's work: trains `blocks` blocks and calls `rest` after each."""

    def __call__(self, setting: Setting, blocks: int, rest: Rest) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Contestant:
    """A contestant. `keeps_memory` applies the product's allocator setting; `samples` is the
    number of training samples in a block; contestants with equal `maths` must train to equal losses."""

    train: Training
    samples: int
    threads: int = 1
    keeps_memory: bool = False
    maths: str = "one client"


@dataclass(frozen=True, kw_only=True)
class BlockTiming:
    """One block: its wall time, the CPU time of all its processes, and its mean training loss."""

    wall_s: float
    cpu_s: float
    loss: float


class Timings:
    """The measurements of a contest, by contestant."""

    def __init__(self, samples: Mapping[str, Sequence[BlockTiming]], sizes: Mapping[str, int]) -> None:
        self._samples = samples
        self._sizes = sizes

    def wall_s(self, name: str) -> list[float]:
        """Wall seconds per training sample, one value a block."""
        return [sample.wall_s / self._sizes[name] for sample in self._samples[name]]

    def cpu_s(self, name: str) -> list[float]:
        """CPU seconds per training sample, one value a block."""
        return [sample.cpu_s / self._sizes[name] for sample in self._samples[name]]


def contest(
    setting: Setting, contestants: Mapping[str, Contestant], progress: Callable[[str], None]
) -> Timings:
    """Times every contestant `sweeps` times, interleaved; calls `progress` with the name of the next.

    Raises BenchError if a process fails, or if contestants of the same mathematics train
    to different losses, since they would not have done the same work.
    """
    samples: dict[str, list[BlockTiming]] = {name: [] for name in contestants}
    with ExitStack() as stack:
        running: dict[str, Fresh] = {}
        names = list(contestants)
        for first in range(0, len(names), _START_AT_ONCE):
            starting = names[first : first + _START_AT_ONCE]
            progress(f"{', '.join(starting)} warming up")
            for name in starting:
                log = setting.folder / f"{name}.log"
                running[name] = stack.enter_context(Fresh(log, perform, setting, contestants[name]))
            for name in starting:
                samples[name].append(running[name].take())
        for sweep in range(setting.sweeps):
            first = sweep % len(names)  # the order rotates, so that none always follows the same other
            for name in [*names[first:], *names[:first]]:
                progress(name)
                running[name].go()
                samples[name].append(running[name].take())
        for one in running.values():
            one.go()
            one.end()
    _check_losses(samples, contestants)
    sizes = {name: contestant.samples for name, contestant in contestants.items()}
    return Timings({name: blocks[1:] for name, blocks in samples.items()}, sizes)


def perform(hand: Hand, setting: Setting, contestant: Contestant) -> None:
    """Runs one contestant; the entry point of its process."""
    torch.set_num_threads(contestant.threads)
    if contestant.keeps_memory:
        keep_freed_memory()
    watch = _Stopwatch(hand, setting.device)
    contestant.train(setting, setting.sweeps + 1, watch.rest)


class _Stopwatch:
    def __init__(self, hand: Hand, device: str) -> None:
        self._hand = hand
        self._device = device
        self._start()

    def rest(self, loss: float) -> None:
        """See Rest."""
        if self._device != "cpu":
            torch.cuda.synchronize()
        wall_s = time.perf_counter() - self._wall_s
        self._hand(BlockTiming(wall_s=wall_s, cpu_s=self._cpu_now_s() - self._cpu_s, loss=loss))
        self._start()

    def _start(self) -> None:
        this = psutil.Process()
        self._processes = [this, *this.children(recursive=True)]
        self._cpu_s = self._cpu_now_s()
        self._wall_s = time.perf_counter()

    def _cpu_now_s(self) -> float:
        return sum(cpu_s(process) for process in self._processes)


def cpu_s(process: psutil.Process) -> float:
    """CPU seconds, user and system, that all threads of this process have used so far."""
    if psutil.LINUX:  # the kernel's per-process clock has ns resolution, psutil's ticks are 10 ms
        return time.clock_gettime((~process.pid << 3) | 2)  # MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED)
    times = process.cpu_times()
    return float(times.user + times.system)


def _check_losses(
    samples: Mapping[str, Sequence[BlockTiming]], contestants: Mapping[str, Contestant]
) -> None:
    first_of: dict[str, str] = {}
    for name, contestant in contestants.items():
        other = first_of.setdefault(contestant.maths, name)
        for one, two in zip(samples[name], samples[other], strict=True):
            if not math.isclose(one.loss, two.loss, rel_tol=_SAME_LOSS):
                raise BenchError(
                    f"{name} and {other} must train to the same loss, got {one.loss} and {two.loss}"
                )
