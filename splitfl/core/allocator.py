"""Resident memory of this process, its peak, and the allocator's treatment of freed memory."""

import ctypes
import platform
import resource
from pathlib import Path

import psutil

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD, M_ARENA_MAX = -1, -3, -8  # malloc.h


def resident_bytes() -> int:
    """The current resident memory of this process, in bytes."""
    return int(psutil.Process().memory_info().rss)


def peak_resident_bytes() -> int:
    """The peak resident memory of this process since `forget_peak` or its start, in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    scale = 1 if platform.system() == "Darwin" else 1024  # getrusage counts kB, on macOS bytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale


def forget_peak() -> None:
    """Resets the peak to the current resident memory, where the system supports it (Linux)."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5")


def keep_freed_memory() -> bool:
    """Makes glibc keep freed large blocks for the next step instead of returning them to the system.

    A training step allocates and frees the same buffers repeatedly. By default each one
    over 32 MiB costs a system call and a page fault per 4 KiB, together 3 to 5 % of a step.
    The arenas of further threads hold at most 64 MiB and are returned regardless, so all threads
    share the first arena (which saves as much again if steps run in threads, as on a server). Call it
    early: a thread keeps an arena that it already has. Returns whether libc applied the settings.
    """
    return _applied((M_ARENA_MAX, 1), (M_MMAP_THRESHOLD, 1 << 30), (M_TRIM_THRESHOLD, (1 << 31) - 1))


def return_freed_memory() -> bool:
    """Makes glibc return blocks of 128 KiB and more to the system as soon as they are freed.

    Weights that exist for a moment, between activations that stay, would otherwise leave gaps in which the
    next weights do not fit. Undoes `keep_freed_memory`. Returns whether libc applied the settings.
    """
    return _applied((M_MMAP_THRESHOLD, 1 << 17), (M_TRIM_THRESHOLD, 1 << 17))


def _applied(*settings: tuple[int, int]) -> bool:
    """Whether libc applied all settings of `mallopt`."""
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    return all([libc.mallopt(parameter, value) for parameter, value in settings])
