"""Commands on one inventory exclude each other."""

from pathlib import Path

import pytest

from splitfl.core.errors import ConfigError
from testbed.remote.exclusive import exclusively


def test_a_second_command_is_refused_with_the_first_ones_name_until_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    nodes = tmp_path / "nodes.toml"
    with exclusively(nodes, "run"):
        with (
            pytest.raises(ConfigError, match=r"nodes.toml: `splitfl testbed run` \(process \d+\) is at work"),
            exclusively(Path("nodes.toml"), "down"),
        ):
            pass
        with exclusively(tmp_path / "others.toml", "down"):
            pass
        with (
            exclusively(nodes, "collect"),
            pytest.raises(ConfigError, match=r"`splitfl testbed collect` \(process"),
            exclusively(nodes, "collect"),
        ):
            pass
    with exclusively(nodes, "down"):
        pass
