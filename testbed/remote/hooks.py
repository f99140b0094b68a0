"""The user's own commands around a deployment, run on this machine."""

import os
import signal
import subprocess
from pathlib import Path

from splitfl.core.errors import Timeout
from testbed.errors import CommandFailed
from testbed.inventory.nodes import Hooks


def run_hook(hooks: Hooks, name: str, inventory: Path, folder: Path | None = None) -> bool:
    """Runs a hook, if it is given, in the inventory's folder; returns whether it was.

    Its environment has SPLITFL_NODES, the inventory, and SPLITFL_RUN, the merged folder where there is
    one. Its output goes to this process's standard error. Raises CommandFailed and Timeout.
    """
    command = str(getattr(hooks, name))
    if not command:
        return False
    env = {**os.environ, "SPLITFL_NODES": str(inventory.absolute())}
    env |= {"SPLITFL_RUN": str(folder.absolute())} if folder is not None else {}
    process = subprocess.Popen(
        ["sh", "-c", command],
        cwd=inventory.absolute().parent,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=2,
        start_new_session=True,
    )
    try:
        code = process.wait(hooks.timeout_s)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired):
            raise Timeout(f"hooks.{name} took more than {hooks.timeout_s:g} s: {command}") from None
        raise
    if code:
        raise CommandFailed(f"hooks.{name} ended with exit code {code}: {command}")
    return True
