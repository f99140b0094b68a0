"""Rows sent as they are: the errors that the closed forms say, and gradients through the air."""

import pytest
import torch

from channel.core.rng import stream
from splitfl.wire.analog import over_the_air, symbols_of


@pytest.mark.parametrize(("equaliser", "snr"), [("lmmse", 10.0), ("lmmse", 1.0), ("zero-forcing", 10.0)])
def test_the_error_is_that_of_the_closed_form(equaliser: str, snr: float) -> None:
    rows_ND = torch.randn(400, 300, generator=torch.Generator().manual_seed(0)) * torch.rand(400, 1)
    heard_ND, factor = over_the_air(rows_ND, stream(0, "t"), snr=snr, equaliser=equaliser, fading="none")
    error = (heard_ND - rows_ND).square().sum() / rows_ND.square().sum()
    assert float(error) == pytest.approx(1 / (1 + snr) if equaliser == "lmmse" else 1 / snr, rel=0.02)
    assert factor == pytest.approx(snr / (1 + snr) if equaliser == "lmmse" else 1.0)


def test_every_token_is_sent_at_the_same_power() -> None:
    """A quiet token is as clear as a loud one beside it."""
    rows_ND = torch.randn(2, 20_000, generator=torch.Generator().manual_seed(0))
    rows_ND[1] *= 1e-3
    heard_ND, _ = over_the_air(rows_ND, stream(0, "t"), snr=10.0, equaliser="zero-forcing", fading="none")
    errors = (heard_ND - rows_ND).square().sum(1) / rows_ND.square().sum(1)
    torch.testing.assert_close(errors, torch.full((2,), 0.1), rtol=0.05, atol=0)


@pytest.mark.parametrize("fading", ["none", "rayleigh"])
@pytest.mark.parametrize("equaliser", ["lmmse", "zero-forcing"])
def test_gradients_pass_through_the_air(equaliser: str, fading: str) -> None:
    rows_ND = torch.randn(3, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def through(x_ND: torch.Tensor) -> torch.Tensor:
        return over_the_air(x_ND, stream(0, "t"), snr=3.0, equaliser=equaliser, fading=fading)[0]

    leaf = rows_ND.clone().requires_grad_()
    through(leaf).sum().backward()
    assert leaf.grad is not None
    step, estimate = 1e-2, torch.zeros_like(rows_ND)
    for place in range(rows_ND.numel()):
        moved = torch.zeros_like(rows_ND).view(-1)
        moved[place] = step
        moved = moved.view_as(rows_ND)
        estimate.view(-1)[place] = (through(rows_ND + moved).sum() - through(rows_ND - moved).sum()) / (
            2 * step
        )
    torch.testing.assert_close(leaf.grad, estimate, rtol=1e-2, atol=1e-2)


def test_a_row_of_nothing_is_heard_as_nothing() -> None:
    heard_ND, _ = over_the_air(torch.zeros(2, 4), stream(0, "t"), snr=1.0, equaliser="lmmse", fading="none")
    assert not heard_ND.any()


def test_two_values_make_a_symbol() -> None:
    assert symbols_of(torch.zeros(3, 5)) == 9
    assert symbols_of(torch.zeros(3, 6)) == 9
