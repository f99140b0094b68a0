"""`splitfl testbed batch` and `batch-results` without a rehearsal: what is written, shown and refused."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from experiments.cli.main import main
from testbed.colosseum.radio_conf import RadioConf

INVENTORY = """
port = 29500
scenario = { id = 1009, traffic = 10090 }
reservation = { minutes = 30 }
[nodes.base]
role = "server"
address = "172.16.0.1"
rf_node = 1
[nodes.ue1]
rf_node = 2
"""
WORDS = ("demo", "--set", "federation.clients=1", "--set", "transport.name=grpc", "--image", "splitfl")


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nodes.toml").write_text(INVENTORY)


def said(*words: str) -> Result:
    return CliRunner().invoke(main, ["testbed", *words])


def test_a_batch_is_written_with_the_experiment_in_each_nodes_file(tmp_path: Path) -> None:
    done = said("batch", *WORDS, "--duration", "600", "--json")
    assert done.exit_code == 0, done.output
    files = ["batch/demo.json", "config/demo-base.conf", "config/demo-ue1.conf"]
    assert json.loads(done.stdout)["files"] == [f"colosseum/{name}" for name in files]
    text = (tmp_path / "colosseum/config/demo-ue1.conf").read_text()
    experiment = json.loads(text.partition("experiment = ")[2])
    assert experiment["federation"]["clients"] == 1
    assert experiment["transport"]["name"] == "grpc"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--duration", "0"), "Duration must be at least 1, got 0"),
        (("--duration", "1500"), "the batch takes 35 min"),
        (("--duration", "9", "--set", "federation.clients=2"), "the number of clients in the inventory"),
        (("--duration", "9", "--rule", "name=3"), "unknown --rule 'name'"),
        (("--duration", "9", "--name", "a b"), "a batch's name must be letters"),
        (("--duration", "9", "--nodes", "none.toml"), "none.toml"),
    ],
)
def test_a_batch_that_colosseum_would_refuse_is_refused_before_anything_is_written(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    done = said("batch", *WORDS, *words)
    assert done.exit_code == 2
    assert message in done.output
    assert not (tmp_path / "colosseum").exists()


def test_results_are_a_row_for_each_node_and_loop(tmp_path: Path) -> None:
    for name, code in (("base", "0\n"), ("ue1", "")):
        loop = tmp_path / "reservation" / name / "loop-1"
        loop.mkdir(parents=True)
        (loop / "radio.conf").write_text(RadioConf(node=name, role="client", run="true").text())
        (loop / "exit_status").write_text(code)
        (loop.parent / "radio.log").touch()
    done = said("batch-results", "reservation")
    assert done.exit_code == 0, done.output
    assert [line.split("│")[1:-1] for line in done.output.splitlines() if "client" in line] == [
        [" base ", " client ", " 1    ", " 0                      "],
        [" ue1  ", " client ", " 1    ", " it did not end         "],
    ]
    assert (tmp_path / "runs/batch/loop-1/nodes/ue1/radio.conf").exists()
    missing = said("batch-results", "nowhere")
    assert missing.exit_code == 2
    assert "no folder of a node that ran splitfl-radio" in missing.output
