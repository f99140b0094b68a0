"""Only real tokens cross the cut, and nothing is lost by it."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from splitfl.core.messages import Activation, Gradient
from splitfl.models.token_rows import pack, unpack
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy
from tests.splitfl.driver import play


@given(st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=5))
def test_unpack_restores_real_tokens_and_zeros_padding(rows: list[list[bool]]) -> None:
    mask_BT = torch.tensor(rows)
    hidden_BTD = torch.randn(*mask_BT.shape, 3)
    packed_ND = pack(hidden_BTD, mask_BT)
    assert len(packed_ND) == mask_BT.sum()
    assert torch.equal(unpack(packed_ND, mask_BT), hidden_BTD * mask_BT[..., None])


def test_without_a_mask_pack_returns_its_input() -> None:
    hidden_BTD = torch.randn(2, 3, 4)
    assert pack(hidden_BTD, None) is hidden_BTD
    assert unpack(hidden_BTD, None) is hidden_BTD


@pytest.mark.parametrize("model_type", ["bert", "gpt2"])
def test_rows_sent_equal_the_real_tokens_of_the_batch(model_type: str, tmp_path: Path) -> None:
    toy.model(tmp_path / "model", model_type)
    toy.data(tmp_path / "data.tsv")
    site = Experiment.of(toy.config(tmp_path, federation={"clients": 1, "rounds": 1}))
    played = play(site, tmp_path)
    batches = site.batches(0)
    real = [int(batches.batch(step).inputs["attention_mask"].sum()) for step in range(3)]
    padded = [batches.batch(step).inputs["attention_mask"].numel() for step in range(3)]
    assert sum(real) < sum(padded)
    sent = [message for _, _, message, _ in played.said if isinstance(message, Activation)]
    back = [reply for _, _, _, reply in played.said if isinstance(reply, Gradient)]
    assert [len(message.hidden) for message in sent if message.hidden is not None] == real
    assert [len(reply.grad) for reply in back] == real


def test_only_hidden_states_and_labels_are_sent(tmp_path: Path) -> None:
    """What a client sends has the hidden state, which tokens are real, and the labels: never the ids."""
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv")
    played = play(Experiment.of(toy.config(tmp_path, federation={"clients": 1, "rounds": 1})), tmp_path)
    for _, _, message, _ in played.said:
        if isinstance(message, Activation):
            assert set(message.context) <= {"mask", "last"}
            assert all(not value.is_floating_point() for value in message.context.values())
