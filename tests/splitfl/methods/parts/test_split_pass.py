"""Blocks computed twice and batches in parts: the same gradients, less held in between."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.accounting.flops import cost
from splitfl.accounting.saved_tensors import SavedTensors
from splitfl.adapters.inject import trainable
from splitfl.federation.aggregators import Mean
from splitfl.methods.parts.client_trainer import ClientTrainer
from splitfl.methods.parts.split_pass import Backpropagation, SplitPass, micro_batches
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.driver import play

METHODS: dict[str, dict[str, Any]] = {
    "sfl-v2": {},
    "ushape": {"partition": {"cut": 2, "tail_blocks": 1}},
    "cse-fsl": {"method": {"auxiliary_blocks": 1}},
    "fsl-sage": {"method": {"auxiliary_blocks": 1, "align_passes": 1}},
    "fedlora": {},
}
QUICK = ("sfl-v2",)


@pytest.fixture(scope="module", params=quick(["bert", "llama"], "llama"))
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model_type, folder = request.param, tmp_path_factory.mktemp(request.param)
    kind = {"bert": "sequence-classification", "llama": "causal-lm"}[model_type]
    toy.model(folder / "model", model_type, kind)
    toy.data(folder / "data.tsv", rows=40, labelled=kind != "causal-lm")
    (folder / "task").write_text("lm" if kind == "causal-lm" else "classification")
    return folder


def site(place: Path, name: str, *, cut: int = 2, **method: Any) -> Experiment:
    tables = {key: dict(value) for key, value in METHODS[name].items()}
    tables["method"] = {"name": name, **tables.get("method", {}), **method}
    tables.setdefault("partition", {"cut": cut})
    federation = {"clients": 1, "rounds": 1, "local_steps": 2}
    return Experiment.of(
        toy.config(place, task={"name": (place / "task").read_text()}, federation=federation, **tables)
    )


def cases(names: dict[str, Any]) -> list[Any]:
    return [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", cases(METHODS))
def test_checkpointed_blocks_change_no_bit_of_a_run(name: str, place: Path, tmp_path: Path) -> None:
    plain = play(site(place, name), tmp_path)
    again = play(site(place, name, checkpoint_head=True), tmp_path)
    assert again.losses == plain.losses
    for key, value in plain.trained.items():
        assert torch.equal(again.trained[key], value), key
    assert again.ledger.total_flops("client") > plain.ledger.total_flops("client")


@pytest.mark.slow
@pytest.mark.parametrize("name", cases(METHODS))
def test_micro_batches_have_the_loss_of_the_whole_batch(name: str, place: Path, tmp_path: Path) -> None:
    """The first loss is of the same parameters; sums over a batch are taken in another order, no more."""
    plain = play(site(place, name), tmp_path)
    for size in (1, 3):
        again = play(site(place, name, micro_batch=size), tmp_path)
        assert again.losses[0] == pytest.approx(plain.losses[0], rel=1e-5)


def passes(place: Path, cut: int = 2, **method: Any) -> tuple[SplitPass, ClientTrainer, Experiment]:
    one = site(place, "sfl-v2", cut=cut, **method)
    head = PieceLoader(config=one.config, task=one.task, num_blocks=one.num_blocks, device="cpu").head()
    chance = torch.Generator().manual_seed(0)
    for value in trainable(head).values():
        value.data += 0.1 * torch.randn(value.shape, generator=chance)
    trainer = ClientTrainer(head, Mean(), one.config.train)
    return SplitPass(trainer, one.config.method.of(Backpropagation)), trainer, one


def gradients(place: Path, **method: Any) -> tuple[dict[str, Tensor], Tensor, float]:
    """Of the first batch, by a made-up gradient at the cut; the hidden state; the FLOPs."""
    both, trainer, one = passes(place, **method)
    hidden_BTD = both.forward(one.batches(0).batch(0))
    assert not hidden_BTD.requires_grad
    both.backward(torch.randn(hidden_BTD.shape, generator=torch.Generator().manual_seed(1)))
    found = {}
    for name, value in trainable(trainer.piece).items():
        assert value.grad is not None
        found[name] = value.grad.clone()
    return found, hidden_BTD, trainer.take_flops()


@pytest.mark.parametrize(
    "method", [{"checkpoint_head": True}, {"micro_batch": 3}, {"micro_batch": 100}], ids=str
)
def test_the_gradients_are_those_of_plain_backpropagation(method: dict[str, Any], place: Path) -> None:
    """To the last bit but where a batch is in parts: then sums over it are in another order, 1e-5."""
    plain, hidden, _ = gradients(place)
    again, hidden_again, _ = gradients(place, **method)
    if method.get("micro_batch") == 3:
        torch.testing.assert_close(hidden_again, hidden, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(again, plain, rtol=1e-4, atol=1e-5)
    else:
        assert torch.equal(hidden_again, hidden)
        assert all(torch.equal(again[name], value) for name, value in plain.items())


@pytest.mark.slow
def test_recomputation_is_counted(place: Path) -> None:
    _, hidden_BTD, plain = gradients(place)
    _, trainer, _ = passes(place)
    once = cost(trainer.piece, *hidden_BTD.shape[:2])
    assert plain == once.step_flops
    for method in ({"checkpoint_head": True}, {"micro_batch": 3}):
        assert gradients(place, **method)[2] == once.step_flops + once.forward_flops
    both = gradients(place, checkpoint_head=True, micro_batch=3)[2]
    assert both == once.step_flops + 2 * once.forward_flops


def held_bytes(place: Path, **method: Any) -> tuple[int, int]:
    """What is saved while the client waits for the gradient, and at most until it has come back."""
    both, trainer, one = passes(place, cut=3, **method)
    with SavedTensors(trainer.piece.parameters()) as meter:
        hidden_BTD = both.forward(one.batches(0).batch(0))
        waiting = meter.bytes
        both.backward(torch.ones_like(hidden_BTD))
    return waiting, meter.peak_bytes


def test_peak_memory_of_saved_tensors_falls(place: Path) -> None:
    """Nothing waits for the gradient but blocks' inputs, or nothing at all; parts hold their share.

    A block that is computed again holds what plain backpropagation of that block holds, for a moment; the
    hooks see it where nothing is checkpointed, so `checkpoint_head` is counted as it waits.
    """
    plain, peak = held_bytes(place)
    assert plain == peak > 0
    waiting, _ = held_bytes(place, checkpoint_head=True)
    assert waiting < plain / 5
    waiting, peak = held_bytes(place, micro_batch=2)
    assert waiting == 0
    assert peak < 0.4 * plain


def test_micro_batches_are_weighted_by_predicted_labels() -> None:
    classes = micro_batches(torch.zeros(5), 2, "sequence-classification")
    assert [part.weight for part in classes] == [0.4, 0.4, 0.2]
    labels = torch.tensor([[1, 2, 3, -100], [1, 2, -100, -100], [7, 8, 9, 1]])  # the first predicts nothing
    assert [part.weight for part in micro_batches(labels, 2, "causal-lm")] == [0.5, 0.5]
    assert micro_batches(labels, 0, "causal-lm") == micro_batches(labels, 9, "causal-lm")
    assert [part.weight for part in micro_batches(labels, 0, "causal-lm")] == [1.0]
