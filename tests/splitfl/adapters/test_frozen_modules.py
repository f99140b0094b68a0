"""Full finetuning with frozen modules: what two pieces have is not trained, all else is exact."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

import splitfl
from splitfl.adapters.inject import add_adapters, trainable
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.evaluation.evaluate import measure_adapter
from splitfl.models.cut import ranges
from splitfl.models.load import load_piece
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load
from tests.quick import quick
from tests.splitfl import tiny, toy
from tests.splitfl.models.test_split_equals_whole import assert_equal, split_step, whole_step

SHARED = {
    "gpt2": (("wte",), ("lm_head",)),
    "deberta-v2": ((), ("encoder.rel_embeddings", "encoder.LayerNorm")),
    "t5": (
        ("shared", "encoder.embed_tokens", "relative_attention_bias"),
        ("decoder.embed_tokens", "lm_head"),
    ),
    "bart": (("shared", "encoder.embed_tokens"), ("decoder.embed_tokens", "lm_head")),
}
"""The modules of head and body that must not be trained, where embeddings are tied."""


def full(head: tuple[str, ...] = (), body: tuple[str, ...] = ()) -> AdapterConfig:
    return AdapterConfig(
        head=side_config("full", frozen_modules=head), body=side_config("full", frozen_modules=body)
    )


@pytest.mark.parametrize(
    ("model_type", "kind"),
    quick(
        [
            ("gpt2", "causal-lm"),
            ("deberta-v2", "sequence-classification"),
            ("deberta-v2", "token-classification"),
            ("t5", "seq2seq-lm"),
            ("bart", "seq2seq-lm"),
        ],
        ("deberta-v2", "sequence-classification"),
    ),
)
def test_all_but_the_shared_tensors_are_trained_as_in_the_whole(
    model_type: str, kind: str, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path, model_type, kind, tie_word_embeddings=True)
    attention = tiny.attention_of(folder)
    for cut, tail in ((1, 0), (2, 1)):
        whole = tiny.stock(folder, kind, attention=attention)
        pieces = [
            load_piece(folder, kind, blocks.start, blocks.stop, attention=attention)
            for blocks in ranges(tiny.BLOCKS, cut, tail)
        ]
        with pytest.raises(CutError, match="name it in frozen_modules of kind 'full'"):
            add_adapters(pieces[0], full(), cut, seed=0)
        trained: set[str] = set()
        for piece in pieces:
            add_adapters(piece, full(*SHARED[model_type]), cut, seed=0)
            trained |= trainable(piece).keys()
        for name in {name for name, _ in whole.named_parameters()} - trained:
            assert any(f".{module}." in f".{name}" for side in SHARED[model_type] for module in side), name
            whole.get_parameter(name).requires_grad_(False)
        for padding in tiny.PADDINGS:
            inputs, labels = tiny.batch(kind, padding)
            assert_equal(split_step(pieces, inputs, labels), whole_step(whole, inputs, labels))


@pytest.mark.parametrize(
    ("adapter", "message"),
    [
        (full(head=("wte",)), r"adapter.head.frozen_modules: no module 'wte'; have .*word_embeddings"),
        (full(head=("classifier",)), r"adapter.head.frozen_modules: no module 'classifier'"),
        (full(body=("classifier",)), "classifier is not in the checkpoint, and must be trained"),
    ],
)
def test_a_frozen_module_that_is_not_there_or_new_is_refused(
    adapter: AdapterConfig, message: str, tmp_path: Path
) -> None:
    kind = "sequence-classification"
    tiny.whole("bert", kind).base_model.save_pretrained(tmp_path)
    for blocks in ranges(tiny.BLOCKS, 2):
        piece = load_piece(tmp_path, kind, blocks.start, blocks.stop)
        with pytest.raises(ConfigError, match=message):
            add_adapters(piece, adapter, 2, seed=0)


def test_a_side_without_anything_to_train_is_refused(tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv", 40)
    sides = {"head": {"kind": "full", "frozen_modules": ["bert"]}, "body": {"kind": "full"}}
    with pytest.raises(
        ConfigError, match=r"adapter.head.frozen_modules \['bert'\] leave nothing to train in blocks"
    ):
        splitfl.run(toy.table(tmp_path, adapter=sides), out=tmp_path)


@pytest.mark.slow
def test_a_model_with_tied_embeddings_is_finetuned_but_for_them_and_exported(tmp_path: Path) -> None:
    source = toy.model(tmp_path / "model", "gpt2", "causal-lm", tie_word_embeddings=True)
    toy.data(tmp_path / "data.tsv", 40, labelled=False)
    head, body = ({"kind": "full", "frozen_modules": list(one)} for one in SHARED["gpt2"])
    task = {"name": "lm", "data": str(tmp_path / "data.tsv"), "max_length": 16}
    settings = toy.table(
        tmp_path,
        adapter={"head": head, "body": body},
        task=task,
        federation={"aggregator": "mean", "partition": "iid"},
    )
    result = splitfl.run(settings, out=tmp_path / "runs")
    before, after = (AutoModelForCausalLM.from_pretrained(one) for one in (source, result.folder / "model"))
    assert after.lm_head.weight is after.transformer.wte.weight
    changed = {
        name for name, value in after.named_parameters() if not torch.equal(value, before.get_parameter(name))
    }
    assert changed == {name for name, _ in after.named_parameters()} - {"transformer.wte.weight"}
    again = measure_adapter(Experiment.of(load(result.folder / "config.json")), result.folder / "adapter")
    assert {name: result.summary.final[name] for name in again} == pytest.approx(again, abs=1e-5)
