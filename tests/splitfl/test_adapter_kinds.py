"""VeRA and IA3 beside LoRA: pieces together are the whole, and peft loads what was exported."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from splitfl.adapter_export import IA3_FOLDER, export_adapter
from splitfl.adapters import add_adapters, install, trainable
from splitfl.config import AdapterConfig, SideConfig
from splitfl.errors import ConfigError
from splitfl.low_rank import RESIDUAL_A, RESIDUAL_B, residuals
from splitfl.partition.cut import Piece, ranges
from splitfl.partition.load import load_piece
from tests.splitfl import tiny

CUT = 2
IA3, VERA, LORA = SideConfig(kind="ia3"), SideConfig(kind="vera", rank=6), SideConfig(rank=3, alpha=5.0)
KINDS = {
    "ia3 alone": AdapterConfig(head=IA3, body=SideConfig(kind="ia3")),
    "vera alone": AdapterConfig(head=VERA, body=SideConfig(kind="vera", rank=4)),
    "ia3 below lora": AdapterConfig(head=IA3, body=LORA),
    "vera below lora": AdapterConfig(head=VERA, body=LORA),
    "lora below ia3": AdapterConfig(head=LORA, body=IA3),
    "a rank for each block": AdapterConfig(head=SideConfig(ranks=(2, 4)), body=SideConfig(ranks=(3, 1))),
}
MODELS = [
    ("bert", "sequence-classification"),
    pytest.param("gpt2", "causal-lm", marks=pytest.mark.slow),
    pytest.param("llama", "sequence-classification", marks=pytest.mark.slow),
]


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


def loss(pieces: list[Piece], kind: str) -> Tensor:
    inputs, labels = tiny.batch(kind)
    context = pieces[0].context_of(inputs)
    state: Tensor | dict[str, Tensor] = inputs
    for piece in pieces[:-1]:
        state = piece(state, context)
    found = pieces[-1](state, context, labels).loss
    assert isinstance(found, Tensor)
    return found


@pytest.mark.parametrize("adapter", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("model_type", "kind"), MODELS)
def test_the_pieces_together_are_the_whole(
    model_type: str, kind: str, adapter: AdapterConfig, tmp_path: Path
) -> None:
    folder = tiny.save(tmp_path, model_type, kind)
    pieces, whole = pieces_of(folder, kind, adapter), loaded(folder, kind, adapter)
    assert torch.equal(loss(pieces, kind), loss([whole], kind)), "as they begin"
    assert set(trainable(whole)) == {name for piece in pieces for name in trainable(piece)}
    install(whole, train(pieces))
    split, unsplit = loss(pieces, kind), loss([whole], kind)
    assert torch.equal(split, unsplit)
    split.backward()
    unsplit.backward()
    for piece in pieces:
        for name, value in trainable(piece).items():
            grad = trainable(whole)[name].grad
            assert value.grad is not None
            assert grad is not None
            assert torch.equal(value.grad, grad), name
            assert bool(grad.any()), name


@pytest.mark.parametrize("adapter", KINDS.values(), ids=KINDS)
def test_at_first_nothing_has_changed(adapter: AdapterConfig, tmp_path: Path) -> None:
    kind = "sequence-classification"
    folder = tiny.save(tmp_path, "bert", kind)
    inputs, labels = tiny.batch(kind)
    stock = tiny.stock(folder, kind, num_labels=tiny.LABELS)
    assert torch.equal(loss(pieces_of(folder, kind, adapter), kind), stock(**inputs, labels=labels).loss)


@pytest.mark.parametrize("adapter", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize(("model_type", "kind"), MODELS)
@pytest.mark.filterwarnings("ignore:.*modify a model with PEFT for a second time:UserWarning")
@pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute:UserWarning")
def test_peft_loads_what_was_exported(
    model_type: str, kind: str, adapter: AdapterConfig, tmp_path: Path
) -> None:
    """VeRA as the LoRA that it is; IA3 in a folder of its own where it is one side's."""
    folder = tiny.save(tmp_path / "model", model_type, kind)
    pieces = pieces_of(folder, kind, adapter)
    tensors, whole = train(pieces), loaded(folder, kind, adapter)
    export_adapter(tmp_path / "out", tensors, whole=whole, model_name="a-model", adapter=adapter, cut=CUT)
    model = PeftModel.from_pretrained(tiny.stock(folder, kind, num_labels=tiny.LABELS), tmp_path / "out")
    is_mixed = {adapter.head.kind, adapter.body.kind} == {"ia3", "lora"}
    assert (tmp_path / "out" / IA3_FOLDER).is_dir() is is_mixed
    if is_mixed:
        model = PeftModel.from_pretrained(model.get_base_model(), tmp_path / "out" / IA3_FOLDER)
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
    head = loaded(folder, "sequence-classification", KINDS["ia3 below lora"], 0, CUT)
    assert {value.shape for value in trainable(head).values()} == {(32, 1)}
    assert {name.rpartition(".")[2] for name in trainable(head)} == {"ia3_l"}


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"kind": "ia3", "rank": 4}, "adapters of kind 'ia3' have no rank: leave it at 8, got 4"),
        ({"kind": "vera", "alpha": 4.0}, "adapters of kind 'vera' have no alpha"),
        ({"kind": "lore"}, "unknown adapter kind 'lore'; did you mean 'lora'"),
        ({"ranks": (2, 0)}, "adapter ranks must be at least 1, got 0"),
    ],
)
def test_what_a_kind_does_not_have_is_refused(settings: dict[str, object], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        SideConfig(**settings)  # type: ignore[arg-type]


def test_ranks_that_are_not_one_a_block_are_refused(tmp_path: Path) -> None:
    folder = tiny.save(tmp_path, "bert", "sequence-classification")
    wrong = AdapterConfig(head=SideConfig(ranks=(1, 2, 3)))
    with pytest.raises(ConfigError, match=r"adapter.head.ranks must name one for each of the 2 blocks"):
        loaded(folder, "sequence-classification", wrong, 0, CUT)


@pytest.mark.parametrize("name", KINDS)
def test_adapters_of_a_bfloat16_piece_are_float32(name: str, tmp_path: Path) -> None:
    kind = "sequence-classification"
    folder = tiny.save(tmp_path, "bert", kind)
    piece = load_piece(folder, kind, 0, None, dtype="bfloat16", num_labels=tiny.LABELS)
    add_adapters(piece, KINDS[name], CUT, seed=0)
    assert {value.dtype for value in trainable(piece).values()} == {torch.float32}
    loss([piece], kind).backward()
    assert all(value.grad is not None for value in trainable(piece).values())
