import pytest
import torch

from splitfl.models.untrained.small_net import pooled


@pytest.mark.parametrize("side", [2, 7, 8])
def test_pooling_is_torchs_own(side: int) -> None:
    hidden = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1), requires_grad=True)
    ours, theirs = pooled(hidden), torch.nn.functional.max_pool2d(hidden, 2)
    assert torch.equal(ours, theirs)
    weights = torch.arange(ours.numel(), dtype=torch.float32).view(ours.shape)
    (our_grad,) = torch.autograd.grad(ours, hidden, weights)
    (their_grad,) = torch.autograd.grad(theirs, hidden, weights)
    assert torch.equal(our_grad, their_grad)
