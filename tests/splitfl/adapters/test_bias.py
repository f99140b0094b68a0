"""Biases beside LoRA: those that peft trains, on the pieces as on the whole, exported and counted."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import Tensor

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import add_adapters, trainable
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import ConfigError
from splitfl.methods.registry import METHODS
from splitfl.models.load import load_piece
from splitfl.setup.experiment import Experiment
from tests.quick import quick
from tests.splitfl import tiny, toy
from tests.splitfl.accounting.test_flops import assert_agreement
from tests.splitfl.adapters.test_kinds import CUT, loaded, pieces_of, train
from tests.splitfl.driver import play
from tests.splitfl.methods.plain import Plain
from tests.splitfl.methods.test_conformance import settings
from tests.splitfl.split_loss import assert_exact, loss

CLASSIFICATION = "sequence-classification"
place = toy.place(is_base=True, rows=40)


def both(bias: str, **own: Any) -> AdapterConfig:
    return AdapterConfig(head=side_config(bias=bias, **own), body=side_config(bias=bias, **own))


@pytest.mark.parametrize("bias", quick(["lora_only", "all"], "lora_only"))
@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("bert", CLASSIFICATION), pytest.param("gpt2", "causal-lm", marks=pytest.mark.slow)],
)
def test_the_biases_are_those_of_peft_and_the_pieces_have_the_gradients_of_the_whole(
    model_type: str, kind: str, bias: Any, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path, model_type, kind)
    pieces, whole = pieces_of(folder, kind, both(bias)), loaded(folder, kind, both(bias))
    names = {name.removesuffix(".lora_A.weight") for name in trainable(whole) if "lora_A" in name}
    stock = tiny.stock(folder, kind, num_labels=tiny.LABELS)
    own: dict[str, Any] = {"bias": bias, "fan_in_fan_out": model_type == "gpt2"}
    model = get_peft_model(stock, LoraConfig(target_modules=sorted(names), **own))
    expected = {
        name.removeprefix("base_model.model.").replace(".default", "")
        for name, value in model.named_parameters()
        if value.requires_grad
    }
    assert set(trainable(whole)) == expected == {name for piece in pieces for name in trainable(piece)}
    assert_exact(pieces, whole, kind)


@pytest.mark.parametrize("bias", quick(["lora_only", "all"], "lora_only"))
def test_peft_loads_the_exported_biases_and_continues_with_their_setting(bias: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path / "model", "bert", CLASSIFICATION)
    pieces, whole = pieces_of(folder, CLASSIFICATION, both(bias)), loaded(folder, CLASSIFICATION, both(bias))
    tensors = train(pieces)
    export_adapter(tmp_path / "out", tensors, whole=whole, model_name="m", adapter=both(bias), cut=CUT)
    stock = tiny.stock(folder, CLASSIFICATION, num_labels=tiny.LABELS)
    model = PeftModel.from_pretrained(stock, tmp_path / "out", is_trainable=True)
    assert model.peft_config["default"].bias == bias
    named = {name: value for name, value in model.named_parameters() if name.endswith(".bias")}
    for name in tensors:
        if name.endswith("base_layer.bias"):
            assert named[f"base_model.model.{name}"].requires_grad
    inputs, labels = tiny.batch(CLASSIFICATION)
    with torch.no_grad():
        found: Tensor = model.eval()(**inputs, labels=labels).loss
        torch.testing.assert_close(found, loss(pieces, CLASSIFICATION), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("model_type", quick(["bert", "opt", "gpt2"], "opt"))
def test_flops_with_biases_equal_the_count_of_torch(model_type: str, tmp_path: Path) -> None:
    kind = CLASSIFICATION if model_type == "bert" else "causal-lm"
    for bias in ("lora_only", "all"):
        assert_agreement(model_type, kind, tmp_path / bias, both(bias), [(0, 2), (2, 4)])


@pytest.mark.parametrize("bias", quick(["lora_only", "all"], "all"))
def test_split_finetuning_with_biases_is_that_of_peft(bias: str, place: Path, tmp_path: Path) -> None:
    sides = {side: {"rank": 2, "bias": bias} for side in ("head", "body")}
    federation = {"clients": 1, "aggregator": "mean"}
    site = Experiment.of(toy.config(place, adapter=sides, federation=federation))
    plain, batches = Plain(site), site.batches(0)
    head = {name for name in trainable(site.client_method(0)._trainer.piece)}  # type: ignore[attr-defined]
    moved = {name: plain.body.pop(name) for name in head & plain.body.keys()}
    plain.head |= moved
    rates = [(plain.body, site.config.train.body_lr), (plain.head, site.config.train.head_lr)]
    plain.optimiser = torch.optim.AdamW(
        [{"params": list(side.values()), "lr": lr} for side, lr in rates], weight_decay=0.0
    )
    played = play(site, tmp_path)
    assert played.losses == [plain.step(batches.batch(step)) for step in range(6)]
    assert plain.differs(played.trained) == []


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", METHODS)
def test_every_method_trains_biases(name: str, place: Path, tmp_path: Path) -> None:
    plain = settings(place, name)
    both = {side: {"bias": "all"} for side in ("head", "body")}
    sides = {"body": both["body"]} if "adapter.head" not in METHODS[name].reads else both
    site = Experiment.of(settings(place, name, adapter=sides))
    first = trainable(Experiment.of(plain).whole())
    trained = play(site, tmp_path).trained
    more = {key for key in trained if key not in first}
    assert more
    assert all(key.endswith(".bias") for key in more)
    assert all(bool(torch.isfinite(value).all()) for value in trained.values())


@pytest.mark.parametrize(
    ("model_type", "options", "reason"),
    [
        ("llama", {}, "adapter.head.bias must be 'none': no 'all' bias on this side of a llama model"),
        ("bert", {"dtype": "bfloat16"}, "set model.dtype to 'float32'"),
    ],
)
def test_biases_that_cannot_be_trained_are_refused(
    model_type: str, options: dict[str, str], reason: str, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path, model_type, CLASSIFICATION)
    piece = load_piece(folder, CLASSIFICATION, 0, 2, num_labels=tiny.LABELS, **options)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=reason):
        add_adapters(piece, both("all"), CUT, seed=0)


def test_both_sides_have_the_same_biases(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"adapter.head.bias must be that of adapter.body, 'none'"):
        Experiment.of(toy.config(place, adapter={"head": {"bias": "all"}}))
