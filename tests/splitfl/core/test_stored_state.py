"""A stored state comes back bit for bit, and does not change with the tensors that it was made of."""

import torch

from splitfl.core.stored_state import StoredState


def test_a_state_is_stored_bit_for_bit_and_apart_from_its_tensors() -> None:
    state = {
        "value": torch.tensor([[1.0, float("nan")], [-0.0, 3e-45]]),
        "half": torch.randn(5).to(torch.bfloat16),
        "steps": torch.tensor(7),
        "transposed": torch.arange(6).reshape(2, 3).T,
        "none": torch.empty(0),
    }
    before = {name: value.clone() for name, value in state.items()}
    stored = StoredState(state)
    for value in state.values():
        value.zero_()
    for name, value in stored.load().items():
        assert value.dtype == before[name].dtype
        assert torch.equal(value.nan_to_num(9.0), before[name].nan_to_num(9.0))
    assert stored.load().keys() == before.keys()
    assert StoredState({}).load() == {}
