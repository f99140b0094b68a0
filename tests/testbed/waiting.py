"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def until(happened: Callable[[], T | None], timeout_s: float = 60.0) -> T:
    """What `happened` gives as soon as it gives anything; fails the test if that takes too long."""
    deadline_s = time.monotonic() + timeout_s
    while not (found := happened()):
        assert time.monotonic() < deadline_s, f"not so within {timeout_s:g} s"
        time.sleep(0.02)
    return found


def is_learning(folder: Path) -> bool:
    """Whether a run somewhere below this folder has come through a round."""
    return any('"event":"round"' in path.read_text() for path in folder.rglob("metrics.jsonl"))
