"""Quantised linear modules compute, save and refuse what they should; torchao is the reference.

Checkpoints are made without torchao; the comparisons with torchao itself are skipped without it.
"""

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from splitfl.accounting.flops import cost
from splitfl.accounting.saved_tensors import SavedTensors
from splitfl.accounting.shape_only import ShapeOnlyPiece
from splitfl.adapters.inject import add_adapters, trainable
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig, ModelConfig
from splitfl.core.errors import ConfigError, CutError
from splitfl.models.checkpoint.checksums import checksums
from splitfl.models.cut import Piece, ranges, replica
from splitfl.models.families import FAMILIES
from splitfl.models.load import load_piece, read_config
from splitfl.models.quantised import (
    NF4_BLOCK,
    NF4_LEVELS,
    Quantisation,
    QuantisedLinear,
    allocated,
    put,
    quantise,
)
from tests.quick import quick
from tests.splitfl import quantised as files
from tests.splitfl import tiny
from tests.splitfl.adapters.kinds import ADDED, both
from tests.splitfl.split_loss import assert_exact, loss

CLASSIFICATION, CUT = "sequence-classification", 2
MODELS = [("bert", CLASSIFICATION), ("llama", "causal-lm")]
NF4 = Quantisation(format="nf4", group_size=NF4_BLOCK)
INT8, INT4 = Quantisation(format="int8"), Quantisation(format="int4", group_size=files.GROUP)


def from_integers(values: Tensor, scale: Tensor, bias: nn.Parameter | None, form: str) -> QuantisedLinear:
    group_size = values.numel() // scale.numel()
    like = torch.empty(values.shape, dtype=scale.dtype, device="meta")
    made = allocated("one", like, bias, Quantisation(format=form, group_size=group_size))
    put(made, values, scale)
    return made


def loaded(folder: Path, kind: str, adapter: AdapterConfig, blocks: range, **options: Any) -> Piece:
    piece = load_piece(folder, kind, blocks.start, blocks.stop, num_labels=tiny.LABELS, **options)
    add_adapters(piece, adapter, CUT, seed=0)
    for name, value in trainable(piece).items():
        chance = torch.Generator().manual_seed(len(name))
        value.data += torch.randn(value.shape, generator=chance) / 5
    return piece


@pytest.mark.parametrize("form", quick(files.FORMATS, "int4", "double"))
@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("model_type", "kind"), MODELS)
def test_the_pieces_of_a_quantised_model_are_the_whole(
    model_type: str, kind: str, dtype: str, form: str, tmp_path: Path
) -> None:
    folder = files.quantise(tiny.save(tmp_path, model_type, kind), form)
    adapter = both("lora")
    pieces = [loaded(folder, kind, adapter, part, dtype=dtype) for part in ranges(tiny.BLOCKS, CUT, 1)]
    whole = loaded(folder, kind, adapter, range(tiny.BLOCKS), dtype=dtype)
    assert_exact(pieces, whole, kind)
    for piece in pieces:
        assert any(isinstance(part, QuantisedLinear) for part in piece.modules())
    together = {key: digest for piece in pieces for key, digest in checksums(piece).items()}
    assert {key: together[key] for key in checksums(whole)} == together


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [pytest.param(both(kind), id=kind) for kind in ADDED])
@pytest.mark.parametrize("form", ["int8", "int4", "nf4"])
def test_every_kind_above_quantised_weights_has_the_gradients_above_the_dequantised_ones(
    adapter: AdapterConfig, form: str, tmp_path: Path
) -> None:
    compare_with_dequantised(adapter, form, tmp_path)


def test_lora_with_principal_singular_vectors_is_above_the_dequantised_weight(tmp_path: Path) -> None:
    side = side_config(rank=2, init="pissa")
    compare_with_dequantised(AdapterConfig(head=side, body=side), "double", tmp_path)


def compare_with_dequantised(adapter: AdapterConfig, form: str, tmp_path: Path) -> None:
    folder = files.quantise(tiny.save(tmp_path / "quantised", "bert", CLASSIFICATION), form)
    plain = files.dequantise(
        files.quantise(tiny.save(tmp_path / "plain", "bert", CLASSIFICATION), form),
    )
    pieces = [loaded(folder, CLASSIFICATION, adapter, part) for part in ranges(tiny.BLOCKS, CUT, 1)]
    whole = loaded(folder, CLASSIFICATION, adapter, range(tiny.BLOCKS))
    other = loaded(plain, CLASSIFICATION, adapter, range(tiny.BLOCKS))
    found, expected = loss(pieces, CLASSIFICATION), loss([other], CLASSIFICATION)
    assert torch.equal(found, loss([whole], CLASSIFICATION))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    found.backward()
    expected.backward()
    for piece in pieces:
        for name, value in trainable(piece).items():
            torch.testing.assert_close(value.grad, trainable(other)[name].grad, rtol=1e-3, atol=1e-4)
    assert cost(whole, 2, 8) == cost(other, 2, 8)


def test_int4_values_come_back_from_their_bytes() -> None:
    values = torch.arange(-8, 8, dtype=torch.int8).repeat(3, 1)
    made = from_integers(values, torch.tensor([[2.0, 1.0]] * 3), None, "int4")
    assert made.qdata.shape == (3, 8)
    assert made.qdata.dtype == torch.uint8
    assert (made.in_features, made.out_features) == (16, 3)
    assert torch.equal(made.weight, values * torch.tensor([2.0] * 8 + [1.0] * 8))


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize(
    ("form", "groups"), quick([("int8", (5, 1)), ("int4", (5, 3)), ("nf4", (3, 1))], ("nf4", (3, 1)))
)
def test_the_derivatives_of_the_product_are_those_of_its_weight(form: str, groups: tuple[int, int]) -> None:
    chance = torch.Generator().manual_seed(0)
    values = torch.randint(0, 8, (5, 6), generator=chance, dtype=torch.int8)
    scale = torch.rand(groups, generator=chance, dtype=torch.float64)
    made = from_integers(values, scale, nn.Parameter(torch.rand(5).double()), form).double()
    x = torch.randn(2, 3, 6, generator=chance, dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(made(x), nn.functional.linear(x, made.weight, made.bias))
    assert torch.autograd.gradcheck(made, (x,), check_forward_ad=True)
    assert torch.autograd.gradgradcheck(made, (x,))


@pytest.mark.parametrize("form", ["int8", "int4", "nf4"])
def test_no_dequantised_weight_is_kept_for_the_backward_pass(form: str, tmp_path: Path) -> None:
    plain = tiny.save(tmp_path / "plain", "bert", CLASSIFICATION)
    folder = files.quantise(tiny.save(tmp_path / "quantised", "bert", CLASSIFICATION), form)
    held = []
    for one in (plain, folder):
        whole = loaded(one, CLASSIFICATION, both("lora"), range(tiny.BLOCKS))
        with SavedTensors(whole.parameters()) as saved:
            value = loss([whole], CLASSIFICATION)
        held.append(saved.peak_bytes)
        del value
    assert held[1] == held[0]


@pytest.mark.parametrize(("form", "bits", "group"), [("int8", 8, 32), ("int4", 4, 8), ("nf4", 4, 64)])
def test_the_storage_is_that_of_the_integers_and_scales(
    form: str, bits: int, group: int, tmp_path: Path
) -> None:
    folder = files.quantise(tiny.save(tmp_path, "bert", CLASSIFICATION), form)
    part = range(CUT)
    head = load_piece(folder, CLASSIFICATION, part.start, part.stop, num_labels=tiny.LABELS)
    for module in head.modules():
        if isinstance(module, QuantisedLinear):
            numbers = module.in_features * module.out_features
            groups = module.out_features if form == "int8" else numbers // group
            own = (module.qdata, module.scale)
            assert sum(value.nbytes for value in own) == numbers * bits // 8 + 4 * groups
    empty = load_piece(
        folder, CLASSIFICATION, part.start, part.stop, num_labels=tiny.LABELS, is_shape_only=True
    )
    assert [(name, value.shape, value.dtype) for name, value in empty.named_parameters()] == [
        (name, value.shape, value.dtype) for name, value in head.named_parameters()
    ]
    add_adapters(empty, both("dora"), CUT, seed=0)
    ShapeOnlyPiece(empty)
    other = replica(head)
    shared = zip(head.parameters(), other.parameters(), strict=True)
    assert all(one is two for one, two in shared)


@pytest.mark.parametrize(
    ("quantisation", "reason"),
    [
        ({"quant_type": "int8_weight_only"}, r"torchao \(int8_weight_only\)"),
        ({"quant_type": {"default": {"_type": "Int4WeightOnlyConfig"}}}, r"torchao \(Int4WeightOnlyConfig\)"),
    ],
)
def test_other_settings_of_torchao_are_refused_by_name(
    quantisation: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path, "bert", CLASSIFICATION)
    files.configure(folder, {"quant_method": "torchao", **quantisation})
    with pytest.raises(CutError, match=reason):
        read_config(folder, CLASSIFICATION)


def test_a_stored_quantisation_is_not_replaced_by_another(tmp_path: Path) -> None:
    folder = files.quantise(tiny.save(tmp_path, "bert", CLASSIFICATION), "int8")
    load_piece(folder, CLASSIFICATION, 0, 1, quantisation=INT8)
    with pytest.raises(CutError, match=r"model.quantization must be 'none' for .*is quantised: int8$"):
        load_piece(folder, CLASSIFICATION, 0, 1, quantisation=INT4)


def test_asymmetric_values_and_other_shapes_are_refused(tmp_path: Path) -> None:
    folder = files.quantise(tiny.save(tmp_path, "bert", CLASSIFICATION), "int8")
    own = "bert.encoder.layer.0.attention.self.query._weight_"
    stored = load_file(folder / "model.safetensors")
    shifted = stored[f"{own}zero_point"] + 1
    save_file({**stored, f"{own}zero_point": shifted}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CutError, match=r"zero_point in .* must be zero, as of symmetric"):
        load_piece(folder, CLASSIFICATION, 0, 1)
    cut = stored[f"{own}scale"][:3].clone()
    save_file({**stored, f"{own}scale": cut}, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(CutError, match=r"_weight_scale of torch.float32 and shape \(32, 1\), has F32 of"):
        load_piece(folder, CLASSIFICATION, 0, 1)


@pytest.mark.parametrize(
    ("model_type", "kind", "reason"),
    [
        ("gpt2", "causal-lm", r"for a gpt2 model: .* transposed modules \(Conv1D\)"),
        ("bert", CLASSIFICATION, "model.quantization_group_size must divide the 32 inputs of bert.*, got 24"),
    ],
)
def test_a_model_that_cannot_be_quantised_is_refused(
    model_type: str, kind: str, reason: str, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path, model_type, kind)
    with pytest.raises(CutError, match=reason):
        load_piece(folder, kind, 0, 1, quantisation=Quantisation(format="int4", group_size=24))


def test_a_quantised_weight_is_not_trained_itself(tmp_path: Path) -> None:
    folder = files.quantise(tiny.save(tmp_path, "bert", CLASSIFICATION), "int8")
    for side in (side_config("full"), side_config(modules_to_save=("query",), targets=("value",))):
        with pytest.raises(ConfigError, match=r"query is quantised, and can only have adapters"):
            loaded(folder, CLASSIFICATION, AdapterConfig(head=side, body=side), range(1))


def test_without_torchao_a_float_model_is_not_quantised(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(ConfigError, match=r"needs torchao, .*: pip install 'splitfl\[quantization\]'"):
        quantise(allocated("query", torch.ones(2, 2), None, INT8), torch.ones(2, 2))


@pytest.mark.parametrize(
    ("suffix", "value", "reason"),
    [
        (".quant_map", NF4_LEVELS.flip(0), r"must have the quant_map \[-1.0, .*\], got \[1.0"),
        (".absmax", torch.ones(3), r"must have the scales \(torch.float32, 16\), got \(torch.float32, 3\)"),
        (".absmax", None, r"bitsandbytes__nf4 in .* lacks .*query.weight.absmax"),
        ("", torch.zeros(8, 1, dtype=torch.uint8), "must have the bytes 512, got 8"),
        (
            files.STATE,
            torch.tensor([91, 93], dtype=torch.uint8),
            "bitsandbytes__nf4 in .* is not a JSON table",
        ),
    ],
)
def test_other_tensors_than_those_of_nf4_are_refused(
    suffix: str, value: Tensor | None, reason: str, tmp_path: Path
) -> None:
    folder = files.quantise(tiny.save(tmp_path, "bert", CLASSIFICATION), "nf4")
    stored = load_file(folder / "model.safetensors")
    key = f"bert.encoder.layer.0.attention.self.query.weight{suffix}"
    del stored[key]
    save_file(
        stored if value is None else {**stored, key: value}, folder / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(CutError, match=reason):
        load_piece(folder, CLASSIFICATION, 0, 1)


def test_nf4_needs_whole_blocks() -> None:
    with pytest.raises(CutError, match="whole blocks of 64 weights, and query is 3 x 32"):
        allocated("query", torch.ones(3, 32), None, NF4)


def test_the_group_size_is_even() -> None:
    with pytest.raises(ConfigError, match=r"model.quantization_group_size must be even, got 3"):
        ModelConfig(quantization_group_size=3)


@pytest.mark.parametrize("quantisation", [INT8, INT4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_product_and_gradient_are_those_of_torchao(quantisation: Quantisation, dtype: torch.dtype) -> None:
    torchao: Any = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    chance = torch.Generator().manual_seed(0)
    linear = nn.Linear(48, 32, bias=False).to(dtype).requires_grad_(False)
    linear.weight.data = torch.randn(32, 48, generator=chance).to(dtype)
    made = allocated("one", linear.weight, None, quantisation)
    quantise(made, linear.weight)
    settings = torchao.Int8WeightOnlyConfig()
    if quantisation.format == "int4":
        group = torchao.PerGroup(files.GROUP)
        settings = torchao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=group)
    torchao.quantize_(linear, settings)
    x = torch.randn(2, 3, 48, generator=chance).to(dtype)
    mine, theirs = (x.clone().requires_grad_() for _ in range(2))
    found, expected = made(mine), linear(theirs)
    assert torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    assert mine.grad is not None
    assert theirs.grad is not None
    assert torch.equal(mine.grad, theirs.grad)


@pytest.mark.parametrize("is_double", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_nf4_and_its_product_are_those_of_bitsandbytes(dtype: torch.dtype, is_double: bool) -> None:
    """Rows of whole blocks, which is what bitsandbytes dequantises rightly on the CPU."""
    bitsandbytes: Any = pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    weight = torch.randn(48, 128, generator=torch.Generator().manual_seed(0)).to(dtype)
    theirs = bitsandbytes.nn.Linear4bit(128, 48, bias=False, compute_dtype=dtype, quant_type="nf4")
    theirs.weight = bitsandbytes.nn.Params4bit(
        weight.clone(), requires_grad=False, quant_type="nf4", compress_statistics=is_double
    )
    theirs.to("cpu").train()
    made = allocated("one", weight, None, NF4)
    quantise(made, weight)
    if is_double:
        state = theirs.weight.quant_state
        scale = bitsandbytes.functional.dequantize_blockwise(state.absmax, state.state2) + state.offset
        made.scale.copy_(scale[:, None])
    x = torch.randn(2, 3, 128, generator=torch.Generator().manual_seed(1)).to(dtype)
    mine, other = (x.clone().requires_grad_() for _ in range(2))
    found, expected = made(mine), theirs(other)
    assert torch.equal(found, expected)
    found.sum().backward()
    expected.sum().backward()
    assert mine.grad is not None
    assert other.grad is not None
    assert torch.equal(mine.grad, other.grad)


@pytest.mark.slow
@pytest.mark.parametrize("is_double", [False, True])
def test_the_model_that_transformers_saves_in_nf4_is_the_same_split(is_double: bool, tmp_path: Path) -> None:
    """Read from its quantised checkpoint, and quantised as it is loaded if its scales are not."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    kind, sizes = "causal-lm", {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16}
    folder = tiny.save(tmp_path / "plain", "llama", kind, **sizes)
    settings = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=is_double
    )
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=settings, device_map="cpu")
    model.save_pretrained(tmp_path / "quantised")
    inputs, labels = tiny.batch(kind)
    expected = model.train()(**inputs, labels=labels).loss
    sources = [(tmp_path / "quantised", None), *([] if is_double else [(folder, NF4)])]
    for one, quantisation in sources:
        pieces = [
            load_piece(one, kind, part.start, part.stop, quantisation=quantisation)
            for part in ranges(tiny.BLOCKS, CUT)
        ]
        assert torch.equal(loss(pieces, kind), expected)


@pytest.mark.slow
@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.filterwarnings("ignore:TorchaoLoraLinear was instantiated without:UserWarning")
def test_the_model_that_transformers_quantises_and_saves_is_the_same_split(bits: int, tmp_path: Path) -> None:
    """Quantised as it is loaded, read back from its quantised checkpoint, and transformers' own."""
    torchao: Any = pytest.importorskip("torchao.quantization", reason="torchao is not installed")
    from transformers import AutoModelForCausalLM, TorchAoConfig

    kind, folder = "causal-lm", tiny.save(tmp_path / "plain", "llama", "causal-lm")
    settings = torchao.Int8WeightOnlyConfig()
    if bits == 4:
        group = torchao.PerGroup(files.GROUP)
        settings = torchao.IntxWeightOnlyConfig(weight_dtype=torch.int4, granularity=group)
    model = AutoModelForCausalLM.from_pretrained(
        folder, quantization_config=TorchAoConfig(quant_type=settings), device_map="cpu"
    )
    model.save_pretrained(tmp_path / "quantised")
    written = json.loads((tmp_path / "quantised" / "config.json").read_text())["quantization_config"]
    assert written["quant_type"] == files.settings(f"int{bits}")["quant_type"]
    inputs, labels = tiny.batch(kind)
    with torch.no_grad():
        expected = model.eval()(**inputs, labels=labels).loss
        for one, quantisation in ((folder, INT8 if bits == 8 else INT4), (tmp_path / "quantised", None)):
            pieces = [
                load_piece(one, kind, part.start, part.stop, quantisation=quantisation)
                for part in ranges(tiny.BLOCKS, CUT)
            ]
            assert torch.equal(loss(pieces, kind), expected)


@pytest.mark.slow
@pytest.mark.parametrize(("model_type", "kind"), tiny.CASES)
def test_every_family_is_quantised_exactly_or_refused(model_type: str, kind: str, tmp_path: Path) -> None:
    pytest.importorskip("torchao", reason="torchao is not installed: pip install 'splitfl[quantization]'")
    folder, int4 = tiny.save(tmp_path, model_type, kind), Quantisation(format="int4", group_size=4)
    if FAMILIES[model_type].fan_in_fan_out or FAMILIES[model_type].hands_pictures:
        with pytest.raises(CutError, match=r"its blocks have (transposed modules \(Conv1D\)|convolutions)"):
            load_piece(folder, kind, 0, 1, quantisation=int4)
        return
    attention = tiny.attention_of(folder)
    adapter = both("lora")
    pieces = [
        loaded(folder, kind, adapter, part, quantisation=int4, attention=attention)
        for part in ranges(tiny.BLOCKS, CUT, 1)
    ]
    whole = loaded(folder, kind, adapter, range(tiny.BLOCKS), quantisation=int4, attention=attention)
    found = loss(pieces, kind)
    assert torch.equal(found, loss([whole], kind))
    found.backward()
    assert any(isinstance(part, QuantisedLinear) for part in whole.modules())
    assert all(value.grad is not None for piece in pieces for value in trainable(piece).values())
