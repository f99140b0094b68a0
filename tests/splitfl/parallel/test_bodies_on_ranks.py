"""A body on two ranks computes what one device does: losses, gradients, optimiser states."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from splitfl.config import SHARDS, TENSOR
from splitfl.models.families import CAUSAL_LM, FAMILIES, SEQUENCE_CLASSIFICATION
from tests.command import Start
from tests.splitfl import toy
from tests.splitfl.models.test_tensor_plan import DIVIDED
from tests.splitfl.parallel.ranks import torchrun

EXACT = ("fsdp", "stages")
FEW = [
    ("gpt2", SEQUENCE_CLASSIFICATION, {}),
    ("llama", CAUSAL_LM, {"train": {"clip_grad_norm": 0.5, "warmup_steps": 2}}),
    ("bert", SEQUENCE_CLASSIFICATION, {"adapter": {"body": {"init": "orthogonal", "rank": 2}}}),
    ("bert", SEQUENCE_CLASSIFICATION, {"adapter": {"head": {"dropout": 0.3}, "body": {"dropout": 0.3}}}),
    ("mistral", CAUSAL_LM, {"model": {"dtype": "bfloat16"}}),
    ("qwen2", CAUSAL_LM, {"adapter": {"body": {"layers_to_transform": [2]}}}),  # only the first stage trains
    ("qwen2", CAUSAL_LM, {"adapter": {"body": {"layers_to_transform": [3]}}}),  # only the last one does
]
"""Model type, kind of model and settings."""
OTHERS = [
    (model_type, family.kinds[0], {"model": {"attention": family.attentions[0]}})
    for model_type, family in FAMILIES.items()
    if family.kinds[0] in (CAUSAL_LM, SEQUENCE_CLASSIFICATION)
]
EVERY_LINEAR = {
    "adapter": {
        side: {"targets": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]}
        for side in ("head", "body")
    }
}
TENSOR_PARALLEL: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", CAUSAL_LM, EVERY_LINEAR),
    ("llama", SEQUENCE_CLASSIFICATION, {}),
    ("starcoder2", CAUSAL_LM, {"adapter": {"body": {"targets": ["o_proj", "c_fc", "c_proj"]}}}),  # biases
    ("qwen3", CAUSAL_LM, EVERY_LINEAR),
    ("phi3", CAUSAL_LM, {"adapter": {"body": {"targets": ["qkv_proj", "o_proj", "down_proj"]}}}),
]
ONLY_STAGES = [
    ("bert", SEQUENCE_CLASSIFICATION, {"adapter": {"head": {"bias": "all"}, "body": {"bias": "all"}}}),
    ("bert", SEQUENCE_CLASSIFICATION, {"adapter": {"body": {"modules_to_save": ["pooler.dense"]}}}),
]


def written(folder: Path, model_type: str, kind: str, tables: Any) -> tuple[str, Any]:
    """A folder with a model and its data, and the settings with the task of its kind."""
    made, is_lm = folder / f"{model_type}-{kind}", kind == CAUSAL_LM
    toy.model(made / "model", model_type, kind)
    toy.data(made / "data.tsv", 40, labelled=not is_lm)
    task = {"task": {"name": "lm"}, "federation": {"partition": "iid"}} if is_lm else {}
    return str(made), {**tables, **task}


def assert_same(start: Start, folder: Path, cases: list[tuple[str, str, Any]], ways: Iterable[str]) -> None:
    made = [written(folder, *case) for case in cases]
    given = [(name, way, tables) for name, tables in made for way in ways]
    ranks = torchrun(start, folder, "-m", "tests.splitfl.parallel.compare_bodies", json.dumps(given))
    code = ranks.code(60.0 + 20.0 * len(given))
    compared = ranks.output.read_text().splitlines()
    assert code == 0, f"after {compared}: {ranks.complained()[-3000:]}"
    assert len(compared) == len(given)


@pytest.mark.slow
def test_two_ranks_compute_the_bits_of_one_device(start: Start, tmp_path: Path) -> None:
    assert_same(start, tmp_path, FEW, EXACT)


@pytest.mark.slow
def test_tensor_parallel_ranks_compute_one_device_s_loss_and_gradients(start: Start, tmp_path: Path) -> None:
    assert_same(start, tmp_path, TENSOR_PARALLEL, [TENSOR])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(900)
def test_every_family_with_a_plan_can_be_tensor_parallel(start: Start, tmp_path: Path) -> None:
    divided = [case for case in OTHERS if case[0] in DIVIDED]
    assert {model_type for model_type, _, _ in divided} == DIVIDED
    assert_same(start, tmp_path, divided, [TENSOR])


@pytest.mark.slow
def test_stages_train_any_tensor_of_the_body(start: Start, tmp_path: Path) -> None:
    assert_same(start, tmp_path, ONLY_STAGES, ["stages"])


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.timeout(1500)
def test_every_family_of_text_models_can_be_on_two_ranks(start: Start, tmp_path: Path) -> None:
    assert_same(start, tmp_path, OTHERS, EXACT)


@pytest.mark.slow
def test_each_of_two_ranks_needs_at_most_0_6_of_the_memory(start: Start, tmp_path: Path) -> None:
    sizes = {"hidden_size": 320, "intermediate_size": 1280, "num_hidden_layers": 49}
    toy.model(tmp_path / "model", "llama", CAUSAL_LM, **sizes)
    toy.data(tmp_path / "data.tsv", 40, labelled=False)
    ranks = torchrun(start, tmp_path, "-m", "tests.splitfl.parallel.measure_bodies", tmp_path)
    assert ranks.code(200.0) == 0, ranks.complained()[-3000:]
    peaks = json.loads(ranks.output.read_text().splitlines()[-1])
    whole = peaks.pop("none")[0]
    assert whole > 230e6  # of 48 blocks of 4.9 MB
    assert peaks.keys() == set(SHARDS[1:])
    for way, of_ranks in peaks.items():
        assert max(of_ranks) <= 0.6 * whole, (way, of_ranks, whole)
