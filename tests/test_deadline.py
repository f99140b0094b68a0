import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def _pytest(*words: str) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        *words,
        "tests/test_isolation.py",
    ]
    said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=_plain())
    assert said.returncode == 0, said.stdout + said.stderr
    return said.stdout


def _plain() -> dict[str, str]:
    """This environment but for what a worker of xdist adds to it."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}


def test_tests_beyond_the_deadline_are_counted_and_named_and_not_passed() -> None:
    said = _pytest("--deadline", "1")
    assert " passed" not in said
    assert "tests were not run: the time was over" in said
    names = [line for line in said.splitlines() if line.startswith("tests/test_isolation.py::")]
    assert f"{len(names)} tests were not run" in said
    assert f"{len(names)} skipped" in said


@pytest.mark.slow
def test_before_the_deadline_everything_is_run() -> None:
    said = _pytest("--deadline", str(time.time() + 600))
    assert " passed" in said
    assert "not run" not in said
