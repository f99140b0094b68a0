"""`pytest --deadline EPOCH_S`: what has not begun by then is not run, and is counted and named at the end.

Files come in an order that each commit draws anew, so that no test is always the last.
"""

import hashlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

_NOT_RUN = "not run: the time for tests was over"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--deadline", type=float, metavar="EPOCH_S", help="begin no test after this time")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--deadline") is not None:
        drawn = _drawn_by_commit(config.rootpath)
        items.sort(key=lambda item: drawn(item.nodeid.partition("::")[0]))


def pytest_runtest_setup(item: pytest.Item) -> None:
    deadline_s = item.config.getoption("--deadline")
    if deadline_s is not None and time.time() > deadline_s:
        pytest.skip(_NOT_RUN)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    missed = sorted(_not_run(terminalreporter))
    if missed:
        terminalreporter.section(f"{len(missed)} tests were not run: the time was over")
        for name in missed:
            terminalreporter.write_line(name)


def _not_run(reporter: pytest.TerminalReporter) -> Iterator[str]:
    for report in reporter.stats.get("skipped", []):
        if isinstance(report.longrepr, tuple) and _NOT_RUN in report.longrepr[2]:
            yield report.nodeid


def _drawn_by_commit(root: Path) -> Callable[[str], bytes]:
    """Numbers for names that are others with each commit."""
    said = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=root, capture_output=True, timeout=10, check=False
    )
    return lambda name: hashlib.blake2b(said.stdout + name.encode(), digest_size=8).digest()
