"""The flagship: pieces compute the loss and every gradient of the stock unsplit model, bit for bit."""

from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from torch import Tensor, nn

from splitfl.adapters.inject import add_adapters, install, train_all, trainable
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import CutError
from splitfl.models.checkpoint.source import resolve
from splitfl.models.cut import Piece, ranges
from splitfl.models.families import FAMILIES, Family
from splitfl.models.load import load_piece
from tests.quick import quick
from tests.splitfl import tiny

CUTS = [(1, 0), (2, 0), (3, 0), (1, 1), (1, 2), (2, 1)]
"""Blocks in the head and in the tail (0: no tail); the models have four."""
FEW_CUTS = [(1, 0), (2, 1)]
"""Those of families that are not in tiny.SHOWN."""
QUICK = [
    ("bert", "sequence-classification"),
    ("gpt2", "causal-lm"),
    ("llama", "sequence-classification"),
    ("gemma3_text", "causal-lm"),
    ("mixtral", "causal-lm"),
    ("modernbert", "token-classification"),
    ("deberta-v2", "token-classification"),
    ("vit", "image-classification"),
]
ADAPTER = AdapterConfig(head=side_config(rank=4, alpha=8.0), body=side_config(rank=2, alpha=6.0))

Gradients = dict[str, Tensor]


def split_step(
    pieces: list[Piece], inputs: dict[str, Tensor], labels: Tensor
) -> tuple[Tensor, Tensor, Gradients]:
    """Forward through every piece and back, with only hidden states and their gradients between them."""
    context = pieces[0].context_of(inputs)
    handed: list[Tensor] = []
    given: list[Tensor] = []
    state: Tensor | dict[str, Tensor] = inputs
    for piece in pieces[:-1]:
        given.append(piece(state, context))
        handed.append(given[-1].detach().requires_grad_())
        state = handed[-1]
    output = pieces[-1](state, context, labels)
    output.loss.backward()
    for hidden, leaf in zip(reversed(given), reversed(handed), strict=True):
        if hidden.requires_grad:
            hidden.backward(leaf.grad)
    return output.loss, output.logits, gradients([piece.model for piece in pieces])


def whole_step(
    model: nn.Module, inputs: dict[str, Tensor], labels: Tensor
) -> tuple[Tensor, Tensor, Gradients]:
    output = model(**inputs, labels=labels)
    output.loss.backward()
    return output.loss, output.logits, gradients([model])


def gradients(models: list[nn.Module]) -> Gradients:
    """All gradients by the names of the unsplit model, taken away from the parameters."""
    found = {}
    for model in models:
        for name, value in model.named_parameters():
            if value.grad is not None:
                found[name.removeprefix("base_model.model.").replace(".default", "")] = value.grad
                value.grad = None
    return found


def load(
    folder: Path, kind: str, cut: int, tail: int, *, lora: bool, dtype: str = "float32", **options: str
) -> list[Piece]:
    if options.get("attention", "sdpa") == "sdpa":
        options["attention"] = tiny.attention_of(folder)
    pieces = []
    for blocks in ranges(tiny.BLOCKS, cut, tail):
        piece = load_piece(folder, kind, blocks.start, blocks.stop, dtype=dtype, **options)
        if lora:
            add_adapters(piece, ADAPTER, cut, seed=0)
            install(piece, noise(trainable(piece)))
        else:
            train_all(piece)
        pieces.append(piece)
    return pieces


def noise(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Values that depend on the name alone; a B of zeros would leave A without a gradient."""
    return {
        name: 0.1 * torch.randn(value.shape, generator=torch.Generator().manual_seed(len(name)))
        for name, value in tensors.items()
    }


def reference(
    folder: Path, kind: str, model_type: str, cut: int, *, lora: bool, dtype: str, attention: str
) -> nn.Module:
    """The stock model, by peft's own `get_peft_model` where LoRA is asked for."""
    model = tiny.stock(folder, kind, dtype, attention)
    if not lora:
        return model
    family = FAMILIES[model_type]
    body = "|".join(str(index) for index in range(cut, tiny.BLOCKS))
    pattern = rf".*\.?{family.blocks}\.({body})\..*"
    above = [pattern, r".*decoder\..*"] if family.decoder else [pattern]
    settings = PeftLoraConfig(
        r=4,
        lora_alpha=8,
        target_modules=list(family.targets),
        rank_pattern=dict.fromkeys(above, 2),
        alpha_pattern=dict.fromkeys(above, 6),
        fan_in_fan_out=family.fan_in_fan_out,
    )
    adapted = get_peft_model(model, settings).eval()
    named = {
        name.removeprefix("base_model.model.").replace(".default", ""): value
        for name, value in adapted.named_parameters()
        if value.requires_grad
    }
    with torch.no_grad():
        for name, value in noise(named).items():
            named[name].copy_(value)
    return adapted


def assert_equal(split: tuple[Tensor, Tensor, Gradients], unsplit: tuple[Tensor, Tensor, Gradients]) -> None:
    assert torch.isfinite(unsplit[0])
    assert torch.equal(split[0], unsplit[0])
    assert torch.equal(split[1], unsplit[1])
    assert sorted(split[2]) == sorted(unsplit[2])
    differing = [name for name in unsplit[2] if not torch.equal(split[2][name], unsplit[2][name])]
    assert differing == []
    assert any(bool(value.any()) for value in split[2].values())


def compare(
    folder: Path,
    model_type: str,
    kind: str,
    cuts: list[tuple[int, int]],
    paddings: tuple[str, ...],
    *,
    lora: bool,
    dtype: str,
    attention: str = "sdpa",
) -> None:
    for cut, tail in cuts:
        whole = reference(folder, kind, model_type, cut, lora=lora, dtype=dtype, attention=attention)
        pieces = load(folder, kind, cut, tail, lora=lora, dtype=dtype, attention=attention)
        for padding in paddings:
            inputs, labels = tiny.batch(kind, padding)
            assert_equal(split_step(pieces, inputs, labels), whole_step(whole, inputs, labels))


def refused(family: Family, *, lora: bool, dtype: str) -> str:
    """What is said of a step that no pieces of this family can take."""
    if (family.shared or (family.decoder and family.base == "")) and not lora:  # T5's embeddings are tied
        return "or used there too, and cannot be trained: train adapters"
    if family.hands_pictures and dtype != "float32":
        return "takes pixels of its own dtype: set model.dtype to 'float32', got 'bfloat16'"
    return ""


@pytest.mark.parametrize(("model_type", "kind"), QUICK)
def test_lora_step_equals_the_whole_models(model_type: str, kind: str, tmp_path: Path) -> None:
    """In three pieces, and of some families in two as well; other cuts and families are the slow test's."""
    folder = tiny.save(tmp_path, model_type, kind)
    cuts = [(1, 1), (2, 0)] if model_type in tiny.SHOWN else [(1, 1)]
    compare(folder, model_type, kind, cuts, ("right",), lora=True, dtype="float32")


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("lora", [True, False], ids=["lora", "full"])
@pytest.mark.parametrize(("model_type", "kind"), tiny.CASES)
def test_cuts_equal_the_whole(model_type: str, kind: str, lora: bool, dtype: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, model_type, kind)
    if refusal := refused(FAMILIES[model_type], lora=lora, dtype=dtype):
        with pytest.raises(CutError, match=refusal):
            load(folder, kind, 1, 0, lora=lora, dtype=dtype)
    else:
        cuts = CUTS if model_type in tiny.SHOWN else FEW_CUTS
        compare(folder, model_type, kind, cuts, tiny.PADDINGS, lora=lora, dtype=dtype)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "kind"), tiny.CASES)
def test_eager_attention_equals_the_whole(model_type: str, kind: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, model_type, kind)
    if "eager" not in FAMILIES[model_type].attentions:
        with pytest.raises(CutError, match="does not support attention 'eager'"):
            load(folder, kind, 2, 0, lora=True, dtype="float32", attention="eager")
        return
    compare(folder, model_type, kind, [(2, 0)], tiny.PADDINGS, lora=True, dtype="float32", attention="eager")


@pytest.mark.parametrize("model_type", quick(["bert", "gpt2", "mistral", "opt"], "bert", "opt"))
def test_inputs_without_a_mask_equal_the_whole(model_type: str, tmp_path: Path) -> None:
    kind = "sequence-classification"
    folder = tiny.save(tmp_path, model_type, kind)
    inputs, labels = tiny.batch(kind, "none")
    del inputs["attention_mask"]
    for dtype in ("float32", "bfloat16"):
        pieces = load(folder, kind, 2, 0, lora=False, dtype=dtype)
        whole = tiny.stock(folder, kind, dtype)
        assert_equal(split_step(pieces, inputs, labels), whole_step(whole, inputs, labels))


@pytest.mark.parametrize(
    "model_type", quick(["bert", "gpt2", "opt", "llama", "gemma3_text", "gpt_neox"], "bert", "gpt2")
)
def test_tied_embeddings_equal_the_whole_where_frozen(model_type: str, tmp_path: Path) -> None:
    kind = "causal-lm"
    folder = tiny.save(tmp_path, model_type, kind, tie_word_embeddings=True)
    compare(folder, model_type, kind, [(2, 0), (1, 1)], ("left",), lora=True, dtype="float32")


def test_shards_and_keys_without_the_base_models_prefix_equal_the_whole(tmp_path: Path) -> None:
    kind = "sequence-classification"
    tiny.whole("bert", kind).base_model.save_pretrained(tmp_path, max_shard_size=20_000)
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    pieces = load(tmp_path, kind, 1, 1, lora=True)
    assert pieces[-1].fresh == ("classifier.weight", "classifier.bias")
    whole = tiny.whole("bert", kind).eval().requires_grad_(False)
    inputs, labels = tiny.batch(kind)
    with torch.no_grad():
        for name in pieces[-1].fresh:
            whole.get_parameter(name).requires_grad_(True).copy_(trainable(pieces[-1])[name])
    for piece in pieces:  # adapters that do nothing
        install(piece, {n: torch.zeros_like(v) for n, v in trainable(piece).items() if "lora_B" in n})
    split, unsplit = split_step(pieces, inputs, labels), whole_step(whole, inputs, labels)
    assert torch.equal(split[0], unsplit[0])
    assert all(torch.equal(split[2][name], unsplit[2][name]) for name in pieces[-1].fresh)


@pytest.mark.parametrize("cut", quick([1, 3, 5], 3))
def test_minilm_from_the_package_equals_the_whole(cut: int) -> None:
    kind = "sequence-classification"
    folder = resolve("minilm")
    inputs, labels = tiny.batch(kind)
    head, body = load_piece(folder, kind, 0, cut, num_labels=5), load_piece(folder, kind, cut, num_labels=5)
    whole = load_piece(folder, kind, 0, num_labels=5)
    stock = tiny.stock(folder, kind, num_labels=5)
    for piece in (head, body, whole):
        train_all(piece)
    with torch.no_grad():
        for name in body.fresh:
            stock.get_parameter(name).copy_(body.model.get_parameter(name))
    unsplit = whole_step(stock, inputs, labels)
    assert_equal(split_step([head, body], inputs, labels), unsplit)
    assert_equal(split_step([whole], inputs, labels), unsplit)


def test_the_tiny_models_have_windows_shorter_than_the_text() -> None:
    layers = {name: tiny.config(name).layer_types for name in ("qwen2", "gemma2", "gemma3_text")}
    assert all({"sliding_attention", "full_attention"} == set(types) for types in layers.values())
    assert tiny.config("mistral").sliding_window < tiny.TOKENS
