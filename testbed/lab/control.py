"""Labs that stay: `up` leaves one standing until `down`, whoever started it."""

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
from testbed.lab.state import State
from testbed.namespaces import Namespace, need_root, reap

_UP_S: Final = 60.0
_DOWN_S: Final = 30.0
_POLL_S: Final = 0.02
_ROOT: Final = str(Path(__file__).parent.parent.parent)


def up(plan_name: str, name: str) -> State:
    """Starts a lab and leaves it standing. Raises ConfigError where one of this name stands already."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,30}", name):
        raise ConfigError(f"a lab's name is of small letters, digits and dashes, got {name!r}")
    need_programs(plan.find(plan_name))  # refused here, before anything is begun
    with state.one_at_a_time():
        found = State.read(name)
        if found is not None and found.is_up:
            raise ConfigError(f"the lab {name!r} is up already; `splitfl lab down --lab {name}` ends it")
        state.forget(name)
        folder = state.folder_of(name)
        folder.mkdir(mode=0o700)
        _keep(plan_name, name, folder / "keeper.log")
        made = State.read(name)
        if made is None:
            said = (folder / "keeper.log").read_text(errors="replace").strip()
            state.forget(name)
            raise CommandFailed(f"the lab {name!r} did not come to stand: {said}")
        return made


def down(name: str) -> None:
    """Ends a lab and what runs in it. Raises ConfigError where there is none."""
    need_root("labs")
    with state.one_at_a_time():
        found = _known(name)
        if found.is_up:
            os.kill(found.keeper, signal.SIGTERM)
            with suppress(Timeout):
                _await(lambda: not found.is_up, _DOWN_S, "the lab's keeper to end")
            if found.is_up:
                os.kill(found.keeper, signal.SIGKILL)
                _await(lambda: not found.is_up, _DOWN_S, "the lab's keeper to die")
        reap()
        state.forget(name)


def status() -> list[dict[str, Any]]:
    """Every lab that is up or was left by a dead keeper; of the latter, what it left is removed."""
    rows = []
    for name in state.names():
        found = State.read(name)
        if found is None:
            continue  # on its way up
        rows.append({"name": name, "plan": found.plan, "is_up": found.is_up, "nodes": dict(found.addresses)})
        if not found.is_up:
            need_root("labs")
            reap()
            state.forget(name)
    return rows


def node(name: str, lab: str) -> Namespace:
    """A node of a lab that is up. Raises ConfigError for a lab or a node that is not there."""
    found = _known(lab)
    if not found.is_up:
        raise ConfigError(f"the lab {lab!r} is not up any more: its keeper was killed")
    if name not in found.nodes:
        known = ", ".join(found.nodes)
        raise ConfigError(f"the lab {lab!r} has no node {name!r};{nearest(name, found.nodes)} have {known}")
    return Namespace.attach(found.nodes[name])


def become(name: str, lab: str, command: Sequence[str]) -> None:
    """Turns this process into a program inside a node."""
    words = node(name, lab).entering(command)
    os.execvp(words[0], words)


def _keep(plan_name: str, name: str, log: Path) -> None:
    """Starts a keeper, and comes back when the lab stands or the keeper is dead."""
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
        keeper = pipe.read(32)
        try:
            if not select.select([pipe], [], [], _UP_S)[0]:
                raise Timeout(f"the lab {name!r} did not stand within {_UP_S:g} s")
        except BaseException:
            if keeper:
                os.kill(int(keeper), signal.SIGTERM)
            raise


def _known(name: str) -> State:
    found = State.read(name)
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
