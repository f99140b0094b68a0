"""Runs of encoder-decoders: every method or its refusal, the cached samples, and what is written."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AutoPeftModelForSeq2SeqLM
from transformers import AutoTokenizer

import splitfl
from splitfl.core.errors import ConfigError
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.evaluation.generate import Generator, Sampling
from splitfl.methods.parts.split_pass import micro_batches
from splitfl.methods.registry import METHODS
from splitfl.models.families import CAUSAL_LM, SEQ2SEQ_LM
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import from_dict, load
from tests.splitfl import toy

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

AUXILIARY = ("cse-fsl", "fsl-sage", "heron")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    toy.answer_model(folder / "model")
    toy.prompts(folder / "data.jsonl")
    return folder


def table(folder: Path, method: str, **tables: dict[str, Any]) -> dict[str, Any]:
    task = {"name": "seq2seq", "data": str(folder / "data.jsonl")}
    federation = {"partition": "iid", "rounds": 2, "local_steps": 2}
    return toy.table(folder, method={"name": method}, task=task, federation=federation, **tables)


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name in METHODS if name not in (*AUXILIARY, "spry")])
def test_a_method_learns_and_its_export_has_the_runs_loss(method: str, place: Path, tmp_path: Path) -> None:
    found = splitfl.run(table(place, method), out=tmp_path)
    config = load(found.folder / "config.json")
    final = found.summary.final["eval_loss"]
    assert math.isfinite(final)
    measured = measure_adapter(Experiment.of(config), found.folder / "adapter")
    assert math.isclose(measured["eval_loss"], final, rel_tol=1e-5)
    assert math.isclose(measured["perplexity"], math.exp(final), rel_tol=1e-5)


@pytest.mark.parametrize("method", AUXILIARY)
def test_a_method_with_an_auxiliary_network_is_refused(method: str, place: Path) -> None:
    with pytest.raises(ConfigError, match="not for encoder-decoders: its auxiliary network"):
        Experiment.of(from_dict(table(place, method)))


def test_forward_mode_is_refused_for_a_model_whose_attention_is_sdpa_alone(place: Path) -> None:
    with pytest.raises(
        ConfigError, match="t5 model does not work in forward mode: its attention must be sdpa"
    ):
        Experiment.of(
            from_dict(table(place, "spry", model={"name": str(place / "model"), "attention": "sdpa"}))
        )


def test_a_policy_that_masks_lost_tokens_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"erasure.activation must be .* for an encoder-decoder"):
        Experiment.of(from_dict(table(place, "sfl-v2", erasure={"activation": "mask"})))


@pytest.mark.slow
def test_micro_batches_at_the_client_change_nothing(place: Path, tmp_path: Path) -> None:
    tables = [table(place, "ushape") | {"method": {"name": "ushape", "micro_batch": size}} for size in (0, 3)]
    one, other = (splitfl.run(each, out=tmp_path).summary.final["eval_loss"] for each in tables)
    assert one == pytest.approx(other, rel=1e-5)


def test_micro_batches_weigh_every_token_of_an_answer() -> None:
    labels = torch.tensor([[5, 6, -100], [7, -100, -100]])
    assert [micro.weight for micro in micro_batches(labels, 1, SEQ2SEQ_LM)] == pytest.approx([2 / 3, 1 / 3])
    assert [micro.weight for micro in micro_batches(labels, 1, CAUSAL_LM)] == [1.0, 0.0]


@pytest.mark.slow
def test_the_finished_model_writes_as_plain_peft_does(place: Path, tmp_path: Path) -> None:
    folder = splitfl.run(table(place, "sfl-v2"), out=tmp_path).folder
    config = load(folder / "config.json")
    generator = Generator(config, folder, Sampling(max_new_tokens=8, temperature=0.0))
    model = AutoPeftModelForSeq2SeqLM.from_pretrained(folder / "adapter").eval()
    encode = AutoTokenizer.from_pretrained(place / "model")
    asked = encode("the server learns", return_tensors="pt")
    found = model.generate(
        input_ids=asked["input_ids"], max_new_tokens=8, pad_token_id=encode.pad_token_id, eos_token_id=3
    )
    assert generator.continued("the server learns") == encode.decode(found[0], skip_special_tokens=True)
