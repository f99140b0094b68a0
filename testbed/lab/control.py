"""Persistent labs: `up` starts one in the background, `down` ends it, from any process."""

import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from splitfl.config import nearest
from splitfl.core.errors import ConfigError, Timeout
from testbed.errors import CommandFailed
from testbed.lab import plan, state
from testbed.lab.build import need_programs
from testbed.lab.state import LabState
from testbed.namespaces import Namespace, need_root, reap

_UP_S: Final = 60.0
_DOWN_S: Final = 30.0
_POLL_S: Final = 0.02
_ROOT: Final = str(Path(__file__).parent.parent.parent)


def up(plan_name: str, name: str) -> LabState:
    """Starts a lab in the background. Raises ConfigError if one of this name runs already."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise ConfigError(f"a lab's name must consist of lower-case letters, digits and dashes, got {name!r}")
    need_programs(plan.find(plan_name))  # refused before anything is started
    with state.one_at_a_time():
        found = LabState.read(name)
        if found is not None and found.is_up:
            raise ConfigError(f"the lab {name!r} is already up; `splitfl lab down --lab {name}` ends it")
        state.forget(name)
        folder = state.folder_of(name)
        folder.mkdir(mode=0o700)
        _start_daemon(plan_name, name, folder / "daemon.log")
        made = LabState.read(name)
        if made is None:
            output = (folder / "daemon.log").read_text(errors="replace").strip()
            state.forget(name)
            raise CommandFailed(f"the lab {name!r} did not start: {output}")
        return made


def down(name: str) -> None:
    """Ends a lab and all processes in it. Raises ConfigError for an unknown lab."""
    need_root("labs")
    with state.one_at_a_time():
        found = _known(name)
        if found.is_up:
            os.kill(found.daemon, signal.SIGTERM)
            with suppress(Timeout):
                _await(lambda: not found.is_up, _DOWN_S, "the lab's daemon to end")
            if found.is_up:
                os.kill(found.daemon, signal.SIGKILL)
                _await(lambda: not found.is_up, _DOWN_S, "the lab's daemon to die")
        reap()
        state.forget(name)


def status() -> list[dict[str, Any]]:
    """Every lab that is up, or whose daemon died; remains of the latter are removed."""
    rows = []
    for name in state.names():
        found = LabState.read(name)
        if found is None:
            continue  # still starting
        rows.append({"name": name, "plan": found.plan, "is_up": found.is_up, "nodes": dict(found.addresses)})
        if not found.is_up:
            need_root("labs")
            reap()
            state.forget(name)
    return rows


def node(name: str, lab: str) -> Namespace:
    """A node of a running lab. Raises ConfigError for an unknown or dead lab, and an unknown node."""
    found = _known(lab)
    if not found.is_up:
        raise ConfigError(f"the lab {lab!r} is no longer up: its daemon was killed")
    if name not in found.nodes:
        known = ", ".join(found.nodes)
        raise ConfigError(f"the lab {lab!r} has no node {name!r};{nearest(name, found.nodes)} have {known}")
    return Namespace.attach(found.nodes[name])


def become(name: str, lab: str, command: Sequence[str]) -> None:
    """Replaces this process by a program in a node."""
    words = node(name, lab).entering(command)
    os.execvp(words[0], words)


def _start_daemon(plan_name: str, name: str, log: Path) -> None:
    """Starts a daemon, and returns once its lab is up or the daemon has exited."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        try:
            with log.open("wb") as file:
                subprocess.run(
                    [sys.executable, "-P", "-m", "testbed.lab.daemon", plan_name, name, str(writing)],
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=[writing],
                    env={**os.environ, "PYTHONPATH": _path()},
                    timeout=_UP_S,
                    check=False,
                )
        finally:
            os.close(writing)
        daemon = pipe.read(32)
        try:
            if not select.select([pipe], [], [], _UP_S)[0]:
                raise Timeout(f"the lab {name!r} did not start within {_UP_S:g} s")
        except BaseException:
            if daemon:
                os.kill(int(daemon), signal.SIGTERM)
            raise


def _known(name: str) -> LabState:
    found = LabState.read(name)
    if found is None:
        known = ", ".join(state.names()) or "none"
        raise ConfigError(f"there is no lab {name!r}; up: {known}. `splitfl lab up` starts one")
    return found


def _await(is_so: Callable[[], bool], timeout_s: float, what: str) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline_s:
            raise Timeout(f"waited {timeout_s:g} s for {what}")
        time.sleep(_POLL_S)


def _path() -> str:
    return os.pathsep.join(filter(None, [_ROOT, os.environ.get("PYTHONPATH")]))
