"""A client on a machine of its own, with data and a copy of the model of its own."""

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from safetensors.torch import load_file, save_file

from experiments.cli.main import main
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from tests.command import Command, Start, splitfl
from tests.splitfl import toy
from tests.testbed.waiting import until

LABELS = ("air", "sea", "wire")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model", is_base=True)
    rows = [f"{toy.WORDS[i % 16]} {toy.WORDS[i % 5]}\t{LABELS[i % 3]}\n" for i in range(90)]
    (folder / "data.tsv").write_text("text\tlabel\n" + "".join(rows))
    own = [row for row in rows[:40] if "\tair" not in row]
    (folder / "own.tsv").write_text("text\tlabel\n" + "".join(own))
    (folder / "unfit.tsv").write_text("text\tlabel\n" + "".join(own).replace("\tsea", "\tlake"))
    shutil.copytree(folder / "model", folder / "other")
    weights = load_file(folder / "other" / "model.safetensors")
    weights["encoder.layer.0.output.dense.bias"][0] += 1
    save_file(weights, folder / "other" / "model.safetensors", metadata={"format": "pt"})
    federation = {"clients": 2, "rounds": 2, "local_steps": 0, "partition": "iid"}
    table = toy.table(place := folder, federation=federation, transport={"name": "grpc"})
    (place / "toy.json").write_text(json.dumps(table))
    return folder


def test_a_clients_own_file_is_all_its_own_with_the_numbers_of_the_servers_classes(place: Path) -> None:
    config = Experiment.of(from_dict(json.loads((place / "toy.json").read_text()))).config
    assert config.task.labels == LABELS
    table = json.loads((place / "toy.json").read_text())
    table["task"] |= {"labels": list(LABELS), "data": str(place / "own.tsv")}
    site = Experiment.of_client(from_dict(table), 1, owns_data=True, weights={})
    labels = site.task.train.labels
    assert labels is not None
    assert set(labels.tolist()) == {1, 2}
    assert site.batches(1).num_samples == len(site.task.train)
    dealt = Experiment.of_client(from_dict(table), 1, owns_data=False, weights={})
    assert dealt.batches(1).num_samples < len(site.task.train)


def joined(start: Start, folder: Path, address: str, client: int, *words: str | Path) -> Command:
    return splitfl(start, folder, "join", address, "--transport", "grpc", "--client", str(client), *words)


@pytest.mark.slow
def test_a_client_whose_labels_or_weights_do_not_fit_is_refused_alone(
    start: Start, place: Path, tmp_path: Path
) -> None:
    words = ("serve", place / "toy.json", "--host", "127.0.0.1", "--out", tmp_path / "runs")
    server = splitfl(start, tmp_path, *words)
    (where,) = until(lambda: list(tmp_path.glob("runs/*/server.json")), 60.0)
    address = f"127.0.0.1:{json.loads(where.read_text())['port']}"
    unfit = joined(start, tmp_path, address, 1, "--data", place / "unfit.tsv")
    assert unfit.code() == 2
    assert "label 'lake' is none of this run's: air, sea, wire" in unfit.complained()
    other = joined(start, tmp_path, address, 1, "--model", place / "other")
    assert other.code() == 2
    assert "has other weights than the server's in bert.encoder.layer.0; pass a copy" in other.complained()
    good = joined(start, tmp_path, address, 1, "--data", place / "own.tsv")
    first = joined(start, tmp_path, address, 0)
    assert server.code() == 0, server.complained()
    assert (first.code(), good.code()) == (0, 0), good.complained()
    site = json.loads((where.parent / "config.json").read_text())["task"]
    assert site["labels"] == list(LABELS)
    assert "no training sample is of class 'air'" in good.complained()
    steps = [json.loads(line) for line in (where.parent / "metrics.jsonl").read_text().splitlines()]
    samples = sum(row["samples"] for row in steps if row["event"] == "step" and row["client"] == 1)
    own = Experiment.of_client(
        from_dict({**json.loads((where.parent / "config.json").read_text())}
                  | {"task": {**site, "data": str(place / "own.tsv")}}),
        1, owns_data=True, weights={},
    )  # fmt: skip
    assert samples == 2 * own.batches(1).num_samples


def test_dealing_wants_data_to_deal() -> None:
    result = CliRunner().invoke(main, ["join", "127.0.0.1:1", "--client", "0", "--dealt"])
    assert result.exit_code == 2
    assert "--dealt needs --data" in result.output
