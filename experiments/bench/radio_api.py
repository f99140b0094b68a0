"""How long the scripts that Colosseum calls take on a loaded machine, over their share of its limit.

Colosseum's limit is 5 s a call; the target is 1 s at the 99th percentile of 200 calls, while two busy
processes run for each core.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import numpy as np

from experiments.bench.fresh import BenchError
from experiments.bench.ratio import Figure, at_most
from experiments.bench.setting import Setting
from testbed.colosseum.radio_conf import RadioConf
from testbed.colosseum.rehearsed_node import SCRIPTS

LIMIT_S: Final = 1.0
_CALLS: Final = 200
_SCRIPTS: Final = ("status", "start", "stop")
_BOOT_S: Final = 30.0
_BUSY: Final = "while True: pass"


def radio_api(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Calls each script 200 times beside a running daemon; one percentile for each script."""
    root = setting.folder / "radio-api"
    (root / "root/radio_api").mkdir(parents=True)
    (root / "logs").mkdir()
    conf = RadioConf(node="bench", role="none", run="sleep 3600", warm="true", loops=10 * _CALLS)
    (root / "root/radio_api/radio.conf").write_text(conf.text(), encoding="utf-8")
    with _daemon(root), _load():
        figures = []
        for script in _SCRIPTS:
            progress(f"{script}.sh")
            taken_s = [_took_s(script, root) for _ in range(_CALLS)]
            figures.append(
                Figure(
                    what=f"{script}.sh, 99th percentile of {_CALLS} calls under load / {LIMIT_S:g} s",
                    ratios=(float(np.quantile(taken_s, 0.99)) / LIMIT_S,),
                    target=at_most(1.0),
                )
            )
    return figures


def _took_s(script: str, root: Path) -> float:
    began_s = time.monotonic()
    subprocess.run(
        ["sh", SCRIPTS / f"{script}.sh"],
        env={**os.environ, "SPLITFL_ROOT": str(root)},
        stdout=subprocess.DEVNULL,
        check=True,
        timeout=60,
    )
    return time.monotonic() - began_s


@contextmanager
def _daemon(root: Path) -> Iterator[None]:
    """The daemon behind the scripts, once it is READY."""
    if shutil.which("setsid") is None:
        raise BenchError("the program setsid (Debian: util-linux) is not installed")
    process = subprocess.Popen(
        ["sh", SCRIPTS / "splitfl-radio"], env={**os.environ, "SPLITFL_ROOT": str(root)}
    )
    try:
        deadline_s = time.monotonic() + _BOOT_S
        while "READY" not in _text(root / "run/splitfl/status"):
            if time.monotonic() > deadline_s:
                raise BenchError(f"the daemon was not READY within {_BOOT_S:g} s")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def _load() -> Iterator[None]:
    count = 2 * (os.cpu_count() or 1)
    busy = [subprocess.Popen([sys.executable, "-c", _BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in busy:
            process.kill()
            process.wait()


def _text(path: Path) -> str:
    return path.read_text() if path.exists() else ""
