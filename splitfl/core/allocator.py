"""This process's memory: what it used at most, above what its libraries take by themselves."""

import ctypes
import platform
import resource
from pathlib import Path

import psutil

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h


def resident_bytes() -> int:
    """What this process holds in memory now."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The most that this process has held since `forget_peak`, or since it began."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if platform.system() == "Darwin" else 1024  # getrusage counts kB but for macOS
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def forget_peak() -> None:
    """Lets the peak begin at what is resident now, where the system can (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def keep_freed_memory() -> bool:
    """Tells glibc to keep large blocks for the next step instead of giving them back.

    A training step frees and takes the same buffers over and over. By default each one
    over 32 MiB costs a system call and a page fault for every 4 KiB; kept, they cost
    nothing (3 to 5 % of a step here). The heaps that glibc gives to further threads hold
    64 MiB at most and are given back all the same, so all threads share the first one
    (as much again where the steps run in threads, as on a server). Call it early: a heap
    that a thread has already stays. Returns whether this libc obeyed.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    wanted = ((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, (1 << 31) - 1))
    return all([libc.mallopt(parameter, value) for parameter, value in wanted])
