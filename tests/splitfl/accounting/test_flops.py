"""The closed form agrees with torch's own counting of the operations that were run."""

from pathlib import Path

import pytest
from torch.utils.flop_counter import FlopCounterMode

from splitfl.accounting.flops import cost
from splitfl.adapters.inject import add_adapters, train_all
from splitfl.config import AdapterConfig, SideConfig
from splitfl.models.load import load_piece
from tests.splitfl import tiny

LORA = AdapterConfig(head=SideConfig(rank=4), body=SideConfig(rank=2))
OTHERS = {
    "ia3": AdapterConfig(head=SideConfig(kind="ia3"), body=SideConfig(kind="ia3")),
    "vera": AdapterConfig(head=SideConfig(kind="vera", rank=6), body=SideConfig(rank=2)),
    "tinylora": AdapterConfig(
        head=SideConfig(kind="tinylora", rank=6, numbers=200), body=SideConfig(kind="tinylora")
    ),
    "loha": AdapterConfig(head=SideConfig(kind="loha", rank=6), body=SideConfig(kind="loha", rank=2)),
    "tinylora and loha above attention": AdapterConfig(
        head=SideConfig(kind="loha", rank=6, targets=("output.dense",)),
        body=SideConfig(kind="tinylora", rank=6, targets=("output.dense",)),
    ),
}


def counted(
    folder: Path, kind: str, first: int, last: int, adapter: AdapterConfig | None
) -> tuple[float, float, float, float]:
    """Forward and backward operations by torch, then by the closed form."""
    head = load_piece(folder, kind, 0, max(first, 1), attention="eager")
    piece = load_piece(folder, kind, first, last, attention="eager")
    if adapter is not None:
        add_adapters(piece, adapter, cut=2, seed=0)
    else:
        train_all(piece)
    inputs, labels = tiny.batch(kind, "none")
    state = head(inputs).detach().requires_grad_() if first else inputs
    with FlopCounterMode(display=False) as forward:
        output = piece(state, head.context_of(inputs), labels if piece.is_last else None)
    with FlopCounterMode(display=False) as backward:
        (output.loss if piece.is_last else output.sum()).backward()
    tokens = 10 if kind == "image-classification" else tiny.TOKENS
    closed = cost(piece, tiny.BATCH, tokens)
    return forward.get_total_flops(), backward.get_total_flops(), closed.forward_flops, closed.backward_flops


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [("bert", "sequence-classification"), ("gpt2", "causal-lm"), ("gpt_neox", "causal-lm")],
)
def test_lora_costs_what_torch_counts(model_type: str, kind: str, tmp_path: Path) -> None:
    assert_agreement(model_type, kind, tmp_path, LORA)


@pytest.mark.parametrize("adapter", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize(("model_type", "kind"), [("bert", "sequence-classification"), ("gpt2", "causal-lm")])
def test_other_adapters_cost_what_torch_counts(
    model_type: str, kind: str, adapter: AdapterConfig, tmp_path: Path
) -> None:
    if model_type == "gpt2" and "loha" in (adapter.head.kind, adapter.body.kind):
        pytest.skip("peft has no LoHa for Conv1D")
    assert_agreement(model_type, kind, tmp_path, adapter)


@pytest.mark.slow
@pytest.mark.parametrize("adapter", [LORA, None], ids=["lora", "full"])
@pytest.mark.parametrize(("model_type", "kind"), tiny.SOME)
def test_every_family_costs_what_torch_counts(
    model_type: str, kind: str, adapter: AdapterConfig | None, tmp_path: Path
) -> None:
    assert_agreement(model_type, kind, tmp_path, adapter)


def assert_agreement(model_type: str, kind: str, folder: Path, adapter: AdapterConfig | None) -> None:
    tiny.save(folder, model_type, kind)
    for first, last in [(0, 2), (2, 4), (1, 3), (0, 4)]:
        ran_forward, ran_backward, forward, backward = counted(folder, kind, first, last, adapter)
        assert forward == pytest.approx(ran_forward, rel=0.02)
        assert backward == pytest.approx(ran_backward, rel=0.04)
