"""The closed form agrees with torch's own counting of the operations that were run."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from splitfl.accounting.flops import answers_in, cost
from splitfl.adapters.inject import add_adapters, train_all
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.models.families import FAMILIES
from splitfl.models.load import load_piece
from tests.splitfl import tiny
from tests.splitfl.adapters.kinds import ADDED, OTHER, side
from tests.splitfl.adapters.test_kinds import skip_where_refused

LORA = AdapterConfig(head=side_config(rank=4), body=side_config(rank=2))
Ranges = Sequence[tuple[int, int]]
RANGES: Ranges = ((0, 2), (2, 4), (1, 3), (0, 4))
"""The first block of a piece and the one after its last; the cut is at 2."""
ABOVE_ATTENTION = {"bert": "output.dense", "gpt2": "mlp.c_proj"}


def counted(
    folder: Path, model_type: str, kind: str, first: int, last: int, adapter: AdapterConfig | None
) -> tuple[float, float, float, float]:
    """Forward and backward operations by torch, then by the closed form."""
    attention = FAMILIES[model_type].attentions[-1]
    head = load_piece(folder, kind, 0, max(first, 1), attention=attention)
    piece = load_piece(folder, kind, first, last, attention=attention)
    if adapter is not None:
        add_adapters(piece, adapter, cut=2, seed=0)
    else:
        train_all(piece)
    for module in piece.model.modules():  # of its weight's gradient torch counts a product without groups
        if isinstance(module, (nn.Conv1d, nn.Conv2d)) and module.groups > 1:
            module.weight.requires_grad_(False)
    if hasattr(piece.model.config, "num_experts_per_tok"):  # torch does not count grouped products
        piece.model.set_experts_implementation("batched_mm")
    inputs, labels = tiny.batch(kind, "none")
    state = head(inputs).detach().requires_grad_() if first else inputs
    with (
        FlopCounterMode(display=False) as forward,
        sdpa_kernel(SDPBackend.MATH),
    ):  # products that torch counts
        output = piece(state, head.context_of(inputs), labels if piece.is_last else None)
    with FlopCounterMode(display=False) as backward:
        (output.loss if piece.is_last else output.sum()).backward()
    tokens = 9 + piece.family.has_class_token if kind == "image-classification" else tiny.TOKENS
    closed = cost(piece, tiny.BATCH, tokens, answers_in(piece, labels))
    return forward.get_total_flops(), backward.get_total_flops(), closed.forward_flops, closed.backward_flops


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("bert", "sequence-classification"), ("gpt2", "causal-lm"), ("gpt_neox", "causal-lm")],
)
def test_lora_flops_equal_the_count_of_torch(model_type: str, kind: str, tmp_path: Path) -> None:
    assert_agreement(model_type, kind, tmp_path, LORA)


@pytest.mark.parametrize("kind", ADDED)
@pytest.mark.parametrize(
    ("model_type", "task", "is_above"),
    [
        pytest.param("bert", "sequence-classification", False, marks=pytest.mark.slow),
        ("bert", "sequence-classification", True),
        ("gpt2", "causal-lm", False),
        pytest.param("gpt2", "causal-lm", True, marks=pytest.mark.slow),
    ],
)
def test_flops_of_every_adapter_kind_equal_the_count_of_torch(
    model_type: str, task: str, is_above: bool, kind: str, tmp_path: Path
) -> None:
    where = {"targets": (ABOVE_ATTENTION[model_type],)} if is_above else {}
    adapter = AdapterConfig(head=side(kind, **where), body=side(kind, OTHER, **where))
    skip_where_refused(model_type, adapter)
    assert_agreement(model_type, task, tmp_path, adapter, [(0, 2), (1, 4)])


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize(("model_type", "kind"), tiny.SOME)
def test_flops_of_every_family_equal_the_count_of_torch(
    model_type: str, kind: str, adapter: AdapterConfig | None, tmp_path: Path
) -> None:
    if adapter is None and (FAMILIES[model_type].shared or model_type == "umt5"):
        pytest.skip(f"{model_type} is not trained in full: its pieces share tensors")
    assert_agreement(model_type, kind, tmp_path, adapter)


def test_gradients_of_convolutions_with_groups_take_what_they_take_forward(tmp_path: Path) -> None:
    kind = "image-classification"
    piece = load_piece(tiny.save(tmp_path, "convnext", kind), kind, 1, 3, is_shape_only=True)
    train_all(piece)
    counted = cost(piece, tiny.BATCH, 1)
    assert counted.backward_flops == 2 * counted.forward_flops


def assert_agreement(
    model_type: str, kind: str, folder: Path, adapter: AdapterConfig | None, blocks: Ranges = RANGES
) -> None:
    tiny.save(folder, model_type, kind)
    for first, last in blocks:
        ran_forward, ran_backward, forward, backward = counted(folder, model_type, kind, first, last, adapter)
        assert forward == pytest.approx(ran_forward, rel=0.02)
        assert backward == pytest.approx(ran_backward, rel=0.04)
