"""Hooks run in the inventory's folder with its path, and fail with their name."""

from pathlib import Path

import pytest

from splitfl.core.errors import Timeout
from testbed.errors import CommandFailed
from testbed.inventory.nodes import Hooks
from testbed.remote.hooks import run_hook


def test_a_hook_knows_the_inventory_and_the_merged_folder(tmp_path: Path) -> None:
    hooks = Hooks(fetch_results='echo "$SPLITFL_NODES $SPLITFL_RUN" > said')
    assert run_hook(hooks, "fetch_results", tmp_path / "nodes.toml", tmp_path / "runs")
    assert (tmp_path / "said").read_text() == f"{tmp_path}/nodes.toml {tmp_path}/runs\n"
    assert not run_hook(hooks, "start_channel", tmp_path / "nodes.toml")


def test_a_failing_and_an_endless_hook_are_named(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match=r"hooks.stop_channel ended with exit code 3: exit 3"):
        run_hook(Hooks(stop_channel="exit 3"), "stop_channel", tmp_path / "nodes.toml")
    with pytest.raises(Timeout, match=r"hooks.start_channel took more than 1 s: sleep 60"):
        run_hook(Hooks(start_channel="sleep 60", timeout_s=1), "start_channel", tmp_path / "nodes.toml")
