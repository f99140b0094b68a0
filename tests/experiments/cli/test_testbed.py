"""`splitfl testbed` refuses bad input before it reaches a node or writes anything."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from experiments.cli.main import main

NODES = 'server = "gpu"\n[nodes.gpu]\nssh = "no-gpu"\n[nodes.a]\nssh = "no-a"\n'


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    (tmp_path / "nodes.toml").write_text(NODES)
    path = tmp_path / "toy.json"
    path.write_text(json.dumps({"federation": {"clients": 1}}))
    return path


def ask(preset: Path, *words: str) -> Result:
    nodes = preset.parent / "nodes.toml"
    return CliRunner().invoke(main, ["testbed", *words, "--nodes", str(nodes)])


@pytest.mark.parametrize("command", ["plan", "deploy"])
@pytest.mark.parametrize(
    ("setting", "complaint"),
    [
        ("federation.clients=3", "federation.clients must be 1, the nodes with role client in the inventory"),
        ("transport.name=rpc", "the inventory has addresses and ports, and --transport chooses"),
        ("federation.rouns=3", "unknown key 'federation.rouns'; did you mean 'rounds'"),
    ],
)
def test_bad_settings_are_refused_before_a_node_is_reached(
    preset: Path, command: str, setting: str, complaint: str
) -> None:
    result = ask(preset, command, str(preset), "--set", setting)
    assert result.exit_code == 2
    assert complaint in result.stderr
    assert sorted(path.name for path in preset.parent.iterdir()) == ["nodes.toml", "toy.json"]


@pytest.mark.parametrize("command", ["run", "status", "collect"])
def test_without_a_deployment_there_is_nothing_to_run(preset: Path, command: str) -> None:
    result = ask(preset, command)
    assert result.exit_code == 2
    assert "nothing is deployed" in result.stderr
    assert not (preset.parent / ".nodes.splitfl").exists()


def test_an_image_is_prepared_and_loaded_before_nodes_are_reached(preset: Path) -> None:
    hooks = 'prepare_image = "echo prepare >>said"\nload_image = "echo load >>said; exit 3"\n'
    (preset.parent / "nodes.toml").write_text(f"{NODES}[hooks]\n{hooks}start_radio = 'echo radio >>said'\n")
    result = ask(preset, "deploy", str(preset), "--image")
    assert result.exit_code == 1
    assert "hooks.load_image ended with exit code 3" in result.stderr
    assert (preset.parent / "said").read_text() == "prepare\nload\n"


def test_an_inventory_that_cannot_be_read_is_named(preset: Path) -> None:
    (preset.parent / "nodes.toml").write_text("[nodes]\n")
    result = ask(preset, "down")
    assert result.exit_code == 2
    assert "nodes.toml: server must be one of the nodes (none), got ''" in result.stderr
