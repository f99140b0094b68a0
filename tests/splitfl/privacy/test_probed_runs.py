"""Probes in whole runs: they change no bit, record what arrived, and are refused where they cannot apply."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import load_file

import splitfl
from experiments.cli.main import main
from experiments.report import write_comparison, write_report
from splitfl.core.errors import ConfigError
from splitfl.models.families import CAUSAL_LM
from splitfl.privacy.observation import Observation, observed_rounds
from splitfl.privacy.registry import ATTACKS
from splitfl.privacy.shown_texts import read_texts
from splitfl.run_folder.read import RunRecord
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict
from tests.splitfl import toy
from tests.splitfl.installed import installed, package

place = toy.place(is_base=True)
USHAPE = {"method": {"name": "ushape"}, "partition": {"cut": 1, "tail_blocks": 1}}
LABELS = ["label-norm", "label-cosine", "label-candidates", "label-clusters"]


@pytest.fixture(scope="module")
def lm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lm")
    toy.model(folder / "model", "gpt2", CAUSAL_LM)
    toy.data(folder / "data.tsv", 60, labelled=False)
    return folder


def texts(folder: Path, *probes: str, **tables: Any) -> dict[str, Any]:
    task = {"name": "lm", "data": str(folder / "data.tsv"), "packing": "truncate"}
    federation = {"clients": 2, "rounds": 2, "local_steps": 1, "partition": "iid"}
    privacy = {"probes": list(probes), "every": 1, "samples": 6}
    return toy.table(folder, **{"task": task, "federation": federation, "privacy": privacy} | tables)


def rows(run: RunRecord) -> list[dict[str, Any]]:
    """All events but scores and times on the wall clock."""
    events = map(json.loads, (run.folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in one.items() if k != "wall_s"} for one in events if one["event"] != "leak"]


def test_every_token_is_recovered_from_a_causal_head(lm: Path, tmp_path: Path) -> None:
    federation = {"clients": 2, "rounds": 1, "local_steps": 1, "partition": "iid"}
    run = splitfl.run(texts(lm, "exact", federation=federation), out=tmp_path)
    found = {leak.metric: leak for leak in run.events.leaks}
    exact = found["token_recovery"]
    assert (exact.value, exact.low, exact.high) == (1.0, 1.0, 1.0)
    assert exact.chance is not None
    assert exact.chance < 0.5
    assert found["residual"].value < 1e-4
    shown = read_texts(run.folder)
    assert len(shown) == 6
    assert all(text.true == text.recovered for text in shown)


@pytest.mark.slow
def test_a_probed_run_has_the_same_bits(lm: Path, tmp_path: Path) -> None:
    plain = splitfl.run(texts(lm), out=tmp_path / "plain")
    probed = splitfl.run(texts(lm, "nearest", "linear", "exact"), out=tmp_path / "probed")
    assert rows(plain) == rows(probed)
    one, other = (load_file(run.folder / "adapter" / "adapter_model.safetensors") for run in (plain, probed))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert observed_rounds(plain.folder) == []
    assert observed_rounds(probed.folder) == [0, 1]


@pytest.mark.slow
def test_the_report_has_curves_and_texts_and_a_comparison_has_a_column(lm: Path, tmp_path: Path) -> None:
    probed = splitfl.run(texts(lm, "linear", "exact"), out=tmp_path / "probed")
    plain = splitfl.run(texts(lm), out=tmp_path / "plain")
    page = write_report(probed.folder).read_text()
    assert "<h2>Leakage</h2>" in page
    assert "6 texts and what the attack exact recovered of them in round 2" in page
    assert "<h2>Leakage</h2>" not in write_report(plain.folder).read_text()
    compared = write_comparison([probed.folder, plain.folder], tmp_path / "compared.html").read_text()
    assert "exact 100.0 % (constant guess" in compared
    assert "no probes" in compared


@pytest.mark.slow
def test_labels_of_ushape_are_found_by_candidate_gradients(place: Path, tmp_path: Path) -> None:
    federation = {"clients": 2, "rounds": 2, "local_steps": 1, "aggregator": "mean"}
    privacy = {"probes": LABELS, "every": 1, "samples": 16}
    table = toy.table(place, **USHAPE, federation=federation, privacy=privacy)
    run = splitfl.run(table, out=tmp_path)
    found = {(leak.round, leak.attack): leak for leak in run.events.leaks}
    for round_index in (0, 1):
        candidates = found[round_index, "label-candidates"]
        assert (candidates.metric, candidates.value, candidates.n) == ("label_accuracy", 1.0, 16)
        assert {found[round_index, name].metric for name in LABELS} == {"label_auc", "label_accuracy"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sfl-v2", "frozen", "cse-fsl", "hosl", "mu-splitfed", "hybrid", "sfl-v1"])
def test_hidden_states_of_every_method_are_recorded(place: Path, tmp_path: Path, name: str) -> None:
    privacy = {"probes": ["linear"], "samples": 5}
    run = splitfl.run(toy.table(place, method={"name": name}, privacy=privacy), out=tmp_path)
    seen = Observation.load(run.folder, 0)
    assert len(seen.samples) == 5
    assert sorted({sample.client for sample in seen.samples}) == [0, 1]
    assert all(len(sample.places_T) == len(sample.hidden_TD) for sample in seen.samples)
    assert {leak.attack for leak in run.events.leaks} == {"linear"}


@pytest.mark.slow
def test_several_clients_in_one_step_of_the_body_are_recorded_as_apart(place: Path, tmp_path: Path) -> None:
    privacy = {"probes": ["linear"], "samples": 6}
    apart, together = (
        splitfl.run(
            toy.table(place, method={"name": "sfl-v2", **method}, privacy=privacy), out=tmp_path / name
        )
        for name, method in (("apart", {}), ("together", {"server_batch": 2}))
    )
    one, other = (Observation.load(run.folder, 0).samples for run in (apart, together))
    assert [(a.client, a.number) for a in one] == [(b.client, b.number) for b in other]


@pytest.mark.slow
def test_a_run_over_rpc_records_and_is_attacked_later(lm: Path, tmp_path: Path) -> None:
    privacy = {"probes": ["exact"], "every": 1, "samples": 4, "show_texts": False}
    file = tmp_path / "run.json"
    file.write_text(json.dumps(texts(lm, transport={"name": "rpc"}, privacy=privacy)))
    done = CliRunner().invoke(main, ["run", str(file), "--out", str(tmp_path / "runs")])
    assert done.exit_code == 0, done.output
    (folder,) = (tmp_path / "runs").iterdir()
    assert splitfl.load_run(folder).events.leaks == ()
    words = [
        "attack",
        str(folder),
        "--kind",
        "exact",
        "--kind",
        "linear",
        "--round",
        "2",
        "--age",
        "1",
        "--json",
    ]
    attacked = CliRunner().invoke(main, words)
    assert attacked.exit_code == 0, attacked.output
    leaks = json.loads(attacked.stdout)
    assert {(row["attack"], row["round"], row["age"]) for row in leaks} == {("exact", 1, 1), ("linear", 1, 1)}
    assert len(splitfl.load_run(folder).events.leaks) == len(leaks)
    assert read_texts(folder) == []
    missing = CliRunner().invoke(main, ["attack", str(folder), "--kind", "exact", "--age", "7"])
    assert "was not observed; have 1, 2" in missing.output


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"privacy": {"probes": ["exactly"]}}, "did you mean 'exact'"),
        ({"privacy": {"probes": ["exact"]}}, "needs a causal head"),
        ({"privacy": {"probes": ["linear", "linear"]}}, "must name each attack once"),
        ({"privacy": {"probes": ["label-norm"]}}, "those of 'sfl-v2' send the labels themselves"),
        (
            {"privacy": {"probes": ["linear"]}, "method": {"name": "fedlora"}},
            "clients of 'fedlora' send none",
        ),
        (
            {"privacy": {"probes": ["linear"]}, "transport": {"name": "rpc"}},
            "privacy.show_texts must be false with transport.name 'rpc'",
        ),
        (
            {
                "privacy": {"probes": ["linear"]},
                "federation": {"client_cuts": [1, 2]},
                "partition": {"cut": 1},
                "adapter": {"head": {"rank": 2}, "body": {"rank": 2}},
            },
            "needs one cut for all clients",
        ),
    ],
)
def test_probes_that_do_not_apply_are_refused_before_a_run(
    place: Path, tables: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ConfigError, match=reason):
        Experiment.of(from_dict(toy.table(place, **tables)))


def test_privacy_show_names_what_each_method_sends() -> None:
    shown = CliRunner().invoke(main, ["privacy", "show", "demo", "--json"])
    assert shown.exit_code == 0, shown.output
    found = json.loads(shown.stdout)
    by_name = {row["method"]: row for row in found["methods"]}
    assert set(splitfl.METHODS) <= by_name.keys()
    assert by_name["ushape"]["labels"] == "computable from gradients and losses"
    assert by_name["fedlora"]["hidden_states"] == ""
    parties = {row["party"]: row for row in found["parties"]}
    assert parties["network"]["sees"].startswith("every message")
    assert "hidden states at each step" in parties["server"]["sees"]


FOREIGN = """
import torch
from splitfl.privacy.guess import TokenGuess
from splitfl.privacy.spec import AttackSpec

def attack(evidence):
    return TokenGuess(tokens=tuple(torch.zeros_like(one.places_T) for one in evidence.samples))

PLUGIN = AttackSpec(
    about="zeros", bibtex=(), recovers="tokens", reads="activation", knows="nothing", attack=attack
)
"""


@pytest.mark.slow
def test_an_attack_of_another_package_is_a_probe(lm: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    with installed(package(site, "splitfl.probes", "zeros", FOREIGN), ATTACKS):
        run = splitfl.run(texts(lm, "zeros"), out=tmp_path / "runs")
    assert {leak.attack for leak in run.events.leaks} == {"zeros"}
