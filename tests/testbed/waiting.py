"""Waiting for what another process does."""

import time
from collections.abc import Callable


def until(is_so: Callable[[], bool], timeout_s: float = 60.0) -> None:
    """Waits until it is so; fails the test if that takes too long."""
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        assert time.monotonic() < deadline_s, f"not so within {timeout_s:g} s"
        time.sleep(0.02)
