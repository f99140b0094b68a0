"""A transport of another package, under `tests/plugins`, which no file of the project names.

The conformance cases run on it too: they take the transports from the registry.
"""

import json
import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from experiments.presets import without_learning
from splitfl import run
from splitfl.core import registry
from splitfl.core.errors import ConfigError
from splitfl.core.registry import Registry
from splitfl.transport.base.spec import TransportSpec
from splitfl.transport.registry import TRANSPORTS, between_processes, transport
from tests.command import Start, splitfl
from tests.splitfl import toy

PLUGINS = Path(__file__).parents[2] / "plugins"
ROOT = Path(__file__).parents[3]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    toy.model(tmp_path / "model", is_base=True)
    toy.data(tmp_path / "data.tsv")
    return tmp_path


def test_it_stands_beside_those_that_come_along() -> None:
    assert list(TRANSPORTS) == ["inproc", "rpc", "grpc", "mqtt", "radio", "radio-nodes", "mixed", "masked"]
    assert between_processes() == ["rpc", "grpc", "mqtt", "radio-nodes", "mixed", "masked"]


def test_the_command_line_lists_it() -> None:
    said = json.loads(CliRunner().invoke(main, ["list", "transports", "--json"]).stdout)
    assert list(said) == list(TRANSPORTS)
    assert said["masked"] == "gRPC with flipped bits"


def test_a_setting_that_it_does_not_read_is_refused() -> None:
    words = ["run", "demo", "--set", "transport.name=masked", "--set", "transport.user=me"]
    result = CliRunner().invoke(main, words)
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: unknown key 'transport.user'; the transport 'masked' has the keys name, host, port, "
        "timeout_s, join_timeout_s, mask, secrets, tls_cert, tls_key, tls_ca, token_file; "
        "it is a key of mqtt, mixed\n"
    )


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("mask=256", "[transport] transport.mask must lie in 1..255, got 256"),
        ("mask=most", "transport.mask must be of type int, got 'most'"),
        ("msk=1", "'transport.msk'; did you mean 'mask'? the transport 'masked' has the keys name, host"),
    ],
)
def test_a_setting_of_its_own_is_refused_by_name_and_without_torch(word: str, error: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(error)):
        without_learning("demo", ["transport.name=masked", f"transport.{word}"])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_run_over_it_with_a_setting_of_its_own_gives_the_same_numbers_and_a_report(
    start: Start, place: Path
) -> None:
    path = place / "toy.json"
    path.write_text(json.dumps(toy.table(place, transport={"name": "masked", "mask": 15})))
    words = ("run", path, "--out", place / "runs", "--json")
    command = splitfl(start, place, *words, PYTHONPATH=f"{PLUGINS}:{ROOT}")
    assert command.code(timeout_s=200) == 0, command.complained()
    measured, folder = command.said()["final"], Path(command.said()["folder"])
    expected = run(path, out=place / "runs").summary.final
    assert {**measured, "wall_s": 0.0} == {**expected, "wall_s": 0.0}
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "in separate processes over gRPC with flipped bits" in page
    assert "transport.mask" in page
    assert json.loads((folder / "config.json").read_text())["transport"]["mask"] == 15


def test_an_invalid_spec_is_refused_by_name_and_the_others_work(monkeypatch: pytest.MonkeyPatch) -> None:
    group, (point,) = TRANSPORTS.group, registry.entry_points(group=TRANSPORTS.group)
    monkeypatch.setattr(type(point), "load", lambda self: "no spec")
    broken = Registry(group, TransportSpec, {"grpc": transport("grpc")})
    assert list(broken) == ["grpc"]
    with pytest.raises(ConfigError, match=r"'masked' of masked-transport .* must be a TransportSpec"):
        broken["masked"]
