"""Other kinds beside LoRA: pieces together are the whole, and peft loads what was exported."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor

from splitfl.accounting.shape_only import ShapeOnlyPiece
from splitfl.adapters import tinylora
from splitfl.adapters.dora import MAGNITUDE
from splitfl.adapters.export import export_adapter, folders_inside
from splitfl.adapters.inject import add_adapters, install, trainable
from splitfl.adapters.kind import LoraRank
from splitfl.adapters.registry import ADAPTERS, side_config
from splitfl.adapters.residuals import RESIDUAL_A, RESIDUAL_B, B, residuals
from splitfl.config import AdapterConfig, key_types, value_of
from splitfl.core.errors import ConfigError
from splitfl.models.cut import Piece, ranges
from splitfl.models.families import FAMILIES
from splitfl.models.load import load_piece
from splitfl.setup.experiment_file import as_dict, from_dict
from tests.quick import quick
from tests.splitfl import tiny
from tests.splitfl.adapters.kinds import ADDED, CASES, ORTHOGONAL, PAIRS, SHOWN, side
from tests.splitfl.split_loss import assert_exact, loss

CUT = 2
LORA, TINY = side("lora"), side("tinylora")
MODELS = [
    ("bert", "sequence-classification"),
    pytest.param("gpt2", "causal-lm", marks=pytest.mark.slow),
    pytest.param("llama", "sequence-classification", marks=pytest.mark.slow),
]


def skip_where_refused(model_type: str, adapter: AdapterConfig) -> None:
    kinds = [ADAPTERS[one.kind] for one in (adapter.head, adapter.body)]
    if FAMILIES[model_type].fan_in_fan_out and any(kind.transposed is not True for kind in kinds):
        pytest.skip("see test_a_kind_that_does_not_work_on_transposed_weights_is_refused_there")


def loaded(folder: Path, kind: str, adapter: AdapterConfig, first: int = 0, last: int | None = None) -> Piece:
    piece = load_piece(folder, kind, first, last, num_labels=tiny.LABELS)
    add_adapters(piece, adapter, CUT, seed=0)
    return piece


def pieces_of(folder: Path, kind: str, adapter: AdapterConfig) -> list[Piece]:
    return [
        loaded(folder, kind, adapter, blocks.start, blocks.stop) for blocks in ranges(tiny.BLOCKS, CUT, 1)
    ]


def train(pieces: list[Piece]) -> dict[str, Tensor]:
    """Moves every trainable tensor somewhere, and gives them all by name."""
    chance = torch.Generator().manual_seed(1)
    for piece in pieces:
        held = {name: value.detach() for name, value in trainable(piece).items()}
        install(piece, {n: v + torch.randn(v.shape, generator=chance) / 5 for n, v in held.items()})
    return {name: value.detach() for piece in pieces for name, value in trainable(piece).items()}


@pytest.mark.parametrize("adapter", CASES)
@pytest.mark.parametrize(("model_type", "kind"), MODELS)
def test_the_pieces_together_are_the_whole(
    model_type: str, kind: str, adapter: AdapterConfig, tmp_path: Path
) -> None:
    skip_where_refused(model_type, adapter)
    folder = tiny.save(tmp_path, model_type, kind)
    pieces, whole = pieces_of(folder, kind, adapter), loaded(folder, kind, adapter)
    assert torch.equal(loss(pieces, kind), loss([whole], kind)), "as they begin"
    assert set(trainable(whole)) == {name for piece in pieces for name in trainable(piece)}
    install(whole, train(pieces))
    assert_exact(pieces, whole, kind)
    for name, value in trainable(whole).items():
        assert value.grad is not None
        assert value.grad.any(), name


@pytest.mark.parametrize("adapter", CASES)
def test_at_first_nothing_has_changed(adapter: AdapterConfig, tmp_path: Path) -> None:
    kind = "sequence-classification"
    folder = tiny.save(tmp_path, "bert", kind)
    inputs, labels = tiny.batch(kind)
    stock = tiny.stock(folder, kind, num_labels=tiny.LABELS)
    found, expected = loss(pieces_of(folder, kind, adapter), kind), stock(**inputs, labels=labels).loss
    if {value_of(one, "init") for one in (adapter.head, adapter.body)} <= {None, "kaiming"}:
        assert torch.equal(found, expected)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("adapter", CASES)
@pytest.mark.parametrize(("model_type", "kind"), MODELS)
@pytest.mark.filterwarnings("ignore:.*modify a model with PEFT for a second time:UserWarning")
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_peft_loads_an_exported_adapter(
    model_type: str, kind: str, adapter: AdapterConfig, tmp_path: Path
) -> None:
    """What can be LoRA as LoRA; the rest in a folder of its own where it is one side's."""
    skip_where_refused(model_type, adapter)
    folder = tiny.save(tmp_path / "model", model_type, kind)
    pieces = pieces_of(folder, kind, adapter)
    tensors, whole = train(pieces), loaded(folder, kind, adapter)
    export_adapter(tmp_path / "out", tensors, whole=whole, model_name="a-model", adapter=adapter, cut=CUT)
    model = PeftModel.from_pretrained(tiny.stock(folder, kind, num_labels=tiny.LABELS), tmp_path / "out")
    is_lora = {one.kind: ADAPTERS[one.kind].as_lora is not None for one in (adapter.head, adapter.body)}
    beside = [kind for kind, its in is_lora.items() if not its] if any(is_lora.values()) else []
    assert folders_inside(tmp_path / "out") == [tmp_path / "out" / kind for kind in beside]
    for inside in folders_inside(tmp_path / "out"):
        model = PeftModel.from_pretrained(model.get_base_model(), inside)
    inputs, labels = tiny.batch(kind)
    with torch.no_grad():
        found = model.eval()(**inputs, labels=labels).loss
        torch.testing.assert_close(found, loss(pieces, kind), rtol=1e-5, atol=1e-6)


def test_a_residual_is_added_and_exported(tmp_path: Path) -> None:
    kind = "sequence-classification"
    folder = tiny.save(tmp_path / "model", "bert", kind)
    adapter = AdapterConfig(head=LORA, body=LORA)
    whole = loaded(folder, kind, adapter)
    tensors = train([whole])
    name = next(iter(tensors)).removesuffix(".lora_A.weight")
    before = loss([whole], kind)
    more = {name + RESIDUAL_A: torch.randn(2, 32), name + RESIDUAL_B: torch.randn(32, 2)}
    for _ in range(2):  # it takes the place of what was there
        install(whole, more)
        assert all(torch.equal(value, more[key]) for key, value in residuals(whole.model).items())
    assert not torch.equal(loss([whole], kind), before)
    assert trainable(whole).keys() == tensors.keys()
    everything = {**tensors, **more}
    export_adapter(tmp_path / "out", everything, whole=whole, model_name="m", adapter=adapter, cut=CUT)
    model = PeftModel.from_pretrained(tiny.stock(folder, kind, num_labels=tiny.LABELS), tmp_path / "out")
    inputs, labels = tiny.batch(kind)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(**inputs, labels=labels).loss, loss([whole], kind))


def test_ia3_has_a_thousandth_of_the_parameters_of_its_matrices(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    head = loaded(folder, "sequence-classification", PAIRS["ia3 below lora"], 0, CUT)
    assert {value.shape for value in trainable(head).values()} == {(32, 1)}
    assert {name.rpartition(".")[2] for name in trainable(head)} == {"ia3_l"}


@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("label", ["head", "body"])
def test_an_unknown_setting_of_a_kind_names_the_kinds_that_have_it(kind: str, label: str) -> None:
    others = {"rank": 4, "alpha": 4.0, "ranks": [4, 2], "trained_numbers": 13, "targets": ["query"]}
    others |= {
        "use_rslora": True,
        "init": "pissa",
        "dropout": 0.5,
        "bias": "all",
        "block_size": 8,
        "layers_to_transform": [1],
        "modules_to_save": ["score"],
        "frozen_modules": ["score"],
    }
    assert others.keys() == {key for one in ADAPTERS.values() for key in key_types(one.settings)}
    for name, value in others.items():
        table = {"adapter": {label: {"kind": kind, name: value}}}
        if name in key_types(ADAPTERS[kind].settings):
            assert as_dict(from_dict(table))["adapter"][label][name] == value
            continue
        have = ", ".join(one for one, its in ADAPTERS.items() if name in key_types(its.settings))
        unknown = f"unknown key 'adapter.{label}.{name}';"
        said = rf"{unknown} .*the adapter kind '{kind}' has the keys kind.*; it is a key of {have}$"
        with pytest.raises(ConfigError, match=said):
            from_dict(table)


def test_an_unknown_kind_is_refused_with_the_nearest_and_all() -> None:
    said = rf"unknown adapter.body.kind 'lore'; did you mean 'lora'\? have {', '.join(sorted(ADAPTERS))}"
    with pytest.raises(ConfigError, match=said):
        from_dict({"adapter": {"body": {"kind": "lore"}}})


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("prompt-tuning", "virtual tokens lengthen the sequence"),
        ("P_TUNING", "virtual tokens lengthen the sequence"),
        ("prefix", "pieces are run without a cache"),
        ("adalora", "one budget of ranks over all modules"),
        ("pissa", "it is kind 'lora' with init = 'pissa'"),
    ],
)
def test_a_kind_of_peft_that_is_not_supported_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"adapter.body.kind cannot be '{name}': .*{reason}.*; have dora, "
    ):
        from_dict({"adapter": {"body": {"kind": name}}})


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"init": "gaussian"}, "adapter init 'gaussian'"),
        ({"init": "orthogonal", "rank": 3}, "adapter rank must be even with init 'orthogonal', got 3"),
        ({"kind": "tinylora", "trained_numbers": 0}, "adapter trained_numbers must be at least 1, got 0"),
        ({"ranks": (2, 0)}, "adapter ranks must be at least 1, got 0"),
    ],
)
def test_a_number_out_of_range_is_refused(settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        side_config(**settings)


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"settings": frozenset({"rang"})}, r"must be a frozen dataclass, got frozenset"),
        ({"as_lora": None}, "must have either as_lora or peft_config"),
        ({"trains_all": True}, "must have no factors where it trains_all"),
        ({"factors": {B: ADAPTERS["lora"].factors[B]}}, "must have a first factor beside its second"),
    ],
)
def test_a_kind_that_contradicts_itself_is_refused(wrong: dict[str, Any], reason: str) -> None:
    with pytest.raises(ConfigError, match=f"the adapter kind LoRA {reason}"):
        replace(ADAPTERS["lora"], **wrong)


def test_lokr_of_a_rank_with_which_peft_has_no_product_is_refused(tmp_path: Path) -> None:
    folder, sides = tiny.save(tmp_path, "bert", "sequence-classification"), side_config("lokr", rank=4)
    with pytest.raises(ConfigError, match=r"of a lokr adapter of .*query must be below 4, got 4"):
        loaded(folder, "sequence-classification", AdapterConfig(head=sides, body=sides))


@pytest.mark.parametrize(("rank", "scale"), [(4, 1.5), (16, 0.75)])
def test_rslora_divides_by_the_root_of_the_rank_and_keeps_the_scale_at_other_ranks(
    rank: int, scale: float
) -> None:
    own = LoraRank(rank=rank, alpha=3.0, use_rslora=True)
    assert own.scale == scale
    assert LoraRank(rank=9, alpha=own.alpha_of(9), use_rslora=True).scale == pytest.approx(scale)


def test_pissa_trains_the_principal_part_of_the_weight_beside_the_rest(tmp_path: Path) -> None:
    """As in peft's own PiSSA: the same product of the factors, and the same frozen rest."""
    folder, kind = tiny.save(tmp_path, "bert", "sequence-classification"), "sequence-classification"
    sides = side_config(rank=3, alpha=5.0, init="pissa")
    whole = loaded(folder, kind, AdapterConfig(head=sides, body=sides))
    config = LoraConfig(r=3, lora_alpha=5, init_lora_weights="pissa", target_modules=["query", "value"])
    stock = get_peft_model(tiny.stock(folder, kind, num_labels=tiny.LABELS), config).base_model.model
    for name in whole.adapters:
        own, its = whole.model.get_submodule(name), stock.get_submodule(name)
        torch.testing.assert_close(own.get_delta_weight("default"), its.get_delta_weight("default"))
        start = own.get_submodule("start")
        rest = own.base_layer.weight + start.scale * start.B.weight @ start.A.weight
        torch.testing.assert_close(rest, its.base_layer.weight)


def test_dora_starts_from_the_norms_of_the_frozen_weight(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "gpt2", "causal-lm")
    piece = loaded(folder, "causal-lm", PAIRS["dora alone"], 0, CUT)
    for name in piece.adapters:
        weight = piece.model.get_submodule(name).get_submodule("base_layer").get_parameter("weight")
        torch.testing.assert_close(trainable(piece)[name + MAGNITUDE].detach(), weight.detach().norm(dim=0))


def test_ranks_that_are_not_one_a_block_are_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    wrong = AdapterConfig(head=side_config(ranks=(1, 2, 3)), body=side_config())
    with pytest.raises(ConfigError, match=r"adapter.head.ranks must have one rank for each of the 2 blocks"):
        loaded(folder, "sequence-classification", wrong, 0, CUT)


@pytest.mark.parametrize("name", quick(PAIRS, *SHOWN, "one oft for both", ORTHOGONAL))
def test_adapters_of_a_bfloat16_piece_are_float32(name: str, tmp_path: Path) -> None:
    kind = "sequence-classification"
    folder = tiny.save(tmp_path, "bert", kind)
    piece = load_piece(folder, kind, 0, None, dtype="bfloat16", num_labels=tiny.LABELS)
    add_adapters(piece, PAIRS[name], CUT, seed=0)
    assert {value.dtype for value in trainable(piece).values()} == {torch.float32}
    loss([piece], kind).backward()
    assert all(value.grad is not None for value in trainable(piece).values())


def test_tinylora_trains_so_many_numbers_of_each_modules_own(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    head = loaded(folder, "sequence-classification", PAIRS["tinylora below lora"], 0, CUT)
    held = trainable(head)
    assert len({value.data_ptr() for value in held.values()}) == len(held) == 2 * CUT
    assert {name.partition(".attention.self.")[2] for name in held} == {
        "query.tinylora_v.0",
        "value.tinylora_v.0",
    }
    assert {tuple(value.shape) for value in held.values()} == {(5,)}


def test_tinylora_begins_from_the_weights_own_singular_vectors(tmp_path: Path) -> None:
    """B A is the best the rank allows, its signs are fixed, and P is of the seed and the module alone."""
    folder, kind = tiny.save(tmp_path, "gpt2", "causal-lm"), "causal-lm"
    adapter, drawn = AdapterConfig(head=TINY, body=TINY), []
    for seed in (0, 0, 1):
        torch.manual_seed(len(drawn))
        piece = load_piece(folder, kind, 1, 3)
        add_adapters(piece, adapter, CUT, seed=seed)
        layer = piece.model.get_submodule("transformer.h.1.attn.c_attn")
        held = tinylora.parts(layer)
        weight = layer.get_submodule("base_layer").get_parameter("weight").T
        u, values, v = torch.linalg.svd(weight)
        torch.testing.assert_close(held.B @ held.A, u[:, :3] * values[:3] @ v[:3])
        assert bool((held.A.max(1).values == held.A.abs().max(1).values).all())
        drawn.append(held.P)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    other = tinylora.parts(piece.model.get_submodule("transformer.h.2.attn.c_attn")).P
    assert not torch.equal(drawn[2], other)


@pytest.mark.slow
def test_initialisation_leaves_the_global_random_state_of_torch_alone(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    for name in (f"{kind} alone" for kind in ADDED):
        before = torch.random.get_rng_state()
        first = trainable(loaded(folder, "sequence-classification", PAIRS[name], 0, CUT))
        assert torch.equal(torch.random.get_rng_state(), before)
        torch.manual_seed(3)
        again = trainable(loaded(folder, "sequence-classification", PAIRS[name], 0, CUT))
        assert all(torch.equal(value, again[key]) for key, value in first.items())


@pytest.mark.parametrize(
    "name", [name for name in ADDED if ADAPTERS[name].as_lora is not None and ADAPTERS[name].linear is True]
)
def test_the_factors_that_are_exported_are_the_change_that_peft_makes(name: str, tmp_path: Path) -> None:
    folder, kind = tiny.save(tmp_path, "bert", "sequence-classification"), ADAPTERS[name]
    whole = loaded(folder, "sequence-classification", AdapterConfig(head=side(name), body=side(name)))
    tensors = train([whole])
    for module in whole.adapters:
        layer = whole.model.get_submodule(module)
        assert isinstance(layer, BaseTunerLayer)
        assert kind.as_lora is not None
        first, second = kind.as_lora(layer, {end: tensors[module + end] for end in kind.factors})
        change = kind.scale(side(name)) * second @ first
        torch.testing.assert_close(change, layer.get_delta_weight("default").detach())


@pytest.mark.parametrize("kind", [name for name in ADDED if ADAPTERS[name].transposed is not True])
def test_a_kind_that_does_not_work_on_transposed_weights_is_refused_there(kind: str, tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "gpt2", "causal-lm")
    said = rf"adapter.body.kind must be one of lora, .* for a gpt2 model, .*; got '{kind}': "
    with pytest.raises(ConfigError, match=said):
        loaded(folder, "causal-lm", AdapterConfig(head=LORA, body=side(kind)), 0, CUT)


def test_a_peft_without_tinylora_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    monkeypatch.delattr("peft.TinyLoraModel")
    with pytest.raises(ConfigError, match=r"need a version of peft with TinyLoRA, such as 0.21.2"):
        loaded(folder, "sequence-classification", PAIRS["tinylora alone"])


def test_a_hollow_piece_has_the_shapes_without_the_singular_vectors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, kind = tiny.save(tmp_path, "bert", "sequence-classification"), "sequence-classification"
    real = loaded(folder, kind, PAIRS["tinylora alone"])
    svd = torch.linalg.svd

    def of_nothing(weight: Tensor, *, full_matrices: bool) -> object:
        assert weight.is_meta
        return svd(weight, full_matrices=full_matrices)

    monkeypatch.setattr("torch.linalg.svd", of_nothing)
    hollow = load_piece(folder, kind, 0, is_shape_only=True, num_labels=tiny.LABELS)
    add_adapters(hollow, PAIRS["tinylora alone"], CUT, seed=0)
    shapes = [
        {name: value.shape for name, value in [*trainable(one).items(), *one.named_buffers()]}
        for one in (real, hollow)
    ]
    assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", quick((f"{kind} alone" for kind in ADDED), *SHOWN))
def test_a_shape_only_piece_reports_the_saved_bytes_of_the_real_one(name: str, tmp_path: Path) -> None:
    folder, kind = tiny.save(tmp_path, "bert", "sequence-classification"), "sequence-classification"
    inputs, labels = tiny.batch(kind, "none")
    saved = []
    for is_shape_only in (False, True):
        piece = load_piece(folder, kind, 0, is_shape_only=is_shape_only, num_labels=tiny.LABELS)
        add_adapters(piece, PAIRS[name], CUT, seed=0)
        hollow = ShapeOnlyPiece(piece)
        hollow(inputs, piece.context_of(inputs), labels)
        saved.append(hollow.saved_bytes())
    assert saved[0] == saved[1]
