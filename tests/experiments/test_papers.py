"""The presets of papers are what they say: at the published size, and from a run to what was learnt."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from experiments.presets import find
from splitfl.controller.dry_run import run_dry
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict
from tests.splitfl import shown

PICTURES, CLIENTS, ROUNDS, HIDDEN_BYTES = 60_000, 2, 2, 8_192
HEAD_BYTES, AUXILIARY_BYTES = 2_740_048, 8_419_408
LABEL_AND_NAME_BYTES = 8 + 8
MOST_HEADER_BYTES = 16_000
"""Of one message: an upload of weights names some eighty tensors."""


@pytest.fixture(scope="module")
def mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many pictures as MNIST has, all black."""
    folder = tmp_path_factory.mktemp("mnist")
    labels = np.arange(PICTURES, dtype=np.uint8) % 10
    pixels = np.zeros((PICTURES, 28, 28), dtype=np.uint8)
    parts = {"x_train": pixels, "y_train": labels, "x_test": pixels[:10], "y_test": labels[:10]}
    np.savez(folder / "mnist.npz", **parts)
    return folder


@pytest.mark.slow
@pytest.mark.long
def test_fsl_sages_preset_sends_the_published_bytes(mnist: Path) -> None:
    """290,602,240 B in two rounds with CSE-FSL, but for the first round's download.

    All begin with the same weights here. Labels, the samples' names and the frames' headers, which
    the paper does not count, come on top.
    """
    site = Experiment.of(find("paper/fsl-sage-mnist", ["method.name=cse-fsl", f"task.data={mnist}"])[1])
    weights = CLIENTS * (HEAD_BYTES + AUXILIARY_BYTES)
    uploaded = ROUNDS * CLIENTS * 24 * 256
    assert uploaded * HIDDEN_BYTES + 2 * ROUNDS * weights == 290_602_240
    ledger = run_dry(site).ledger
    up = uploaded * (HIDDEN_BYTES + LABEL_AND_NAME_BYTES) + ROUNDS * weights
    for direction, tensor_bytes in (("up", up), ("down", (ROUNDS - 1) * weights)):
        traffic = ledger.total(direction)
        assert 0 <= traffic.payload_bytes - tensor_bytes <= MOST_HEADER_BYTES * traffic.messages


@pytest.mark.slow
def test_a_run_leaves_a_model_that_eval_and_other_runs_take(tmp_path: Path) -> None:
    settings = tmp_path / "settings.json"
    settings.write_text(json.dumps(as_dict(shown.config(tmp_path, shown.SMALL_NET))))
    ran = splitfl("run", settings, "--out", tmp_path / "runs", "--json")
    folder = Path(ran["folder"])
    measured = {key: ran["final"][key] for key in ("eval_loss", "accuracy", "f1", "macro_accuracy", "mcc")}
    assert splitfl("eval", folder, "--json") == measured | {"samples": 20}
    assert not (folder / "adapter").exists()
    further = ("--set", f"model.name={folder / 'model'}", "--set", "federation.rounds=1")
    again = splitfl("run", settings, *further, "--out", tmp_path / "runs", "--json")
    assert again["final"]["eval_loss"] < ran["final"]["eval_loss"]


def splitfl(*words: str | Path) -> dict[str, Any]:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    told = json.loads(result.stdout)
    assert isinstance(told, dict)
    return told
