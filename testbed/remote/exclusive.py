"""One command at a time works with what an inventory's nodes have."""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from splitfl.core.errors import ConfigError
from testbed.runtime_folder import runtime_folder


@contextmanager
def exclusively(nodes: Path, command: str) -> Iterator[None]:
    """Excludes other commands on this inventory, until this process ends, however it does.

    `collect`, which changes nothing on the nodes, excludes another `collect` only. Raises ConfigError while
    another one works.
    """
    key = f"{nodes.resolve()}\n{command if command == 'collect' else ''}"
    path = runtime_folder("testbeds") / hashlib.sha256(key.encode()).hexdigest()[:12]
    with path.open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            other = lock.read() or "another command"
            raise ConfigError(f"{nodes}: {other} is at work: wait until it ends, or interrupt it") from None
        lock.truncate(0)
        lock.write(f"`splitfl testbed {command}` (process {os.getpid()})")
        lock.flush()
        yield
