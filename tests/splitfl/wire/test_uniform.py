"""The uniform codec has the error and the entropy of quantisation theory, and hides no divergence."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs.uniform import uniform
from splitfl.wire.rows import Coded, decode_rows, encode_rows

ENOUGH = 1 << 40


def normal(rows: int, width: int) -> Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(3))


def there_and_back(rows: Tensor, codec: str) -> Tensor:
    return decode_rows(encode_rows(rows, codec), ENOUGH)


def entropy(codes: Tensor) -> float:
    """Bits per code, order 0."""
    share = torch.unique(codes, return_counts=True)[1].double() / codes.numel()
    return float(-(share * share.log2()).sum())


@pytest.mark.parametrize("step", [0.18, 0.35, 0.75])
def test_error_and_entropy_of_normal_rows_are_the_closed_forms(step: float) -> None:
    rows = normal(512, 512)
    coded = encode_rows(rows, f"uniform:step={step}")
    error = float((decode_rows(coded, ENOUGH) - rows).norm() / rows.norm())
    assert error == pytest.approx(step / math.sqrt(12), rel=0.03)
    bits = entropy(coded.parts["codes"]) + 16 / 256
    assert bits == pytest.approx(2.047 - math.log2(step) + 16 / 256, rel=0.03)


@pytest.mark.parametrize(("step", "error"), [(0.75, 0.212), (1.0, 0.277), (1.5, 0.397)])
def test_an_index_is_decoded_to_the_mean_of_its_cell(step: float, error: float) -> None:
    """The errors of a uniform quantiser with centroids, for a normal variable."""
    rows = normal(512, 512)
    assert float((there_and_back(rows, f"uniform:step={step}") - rows).norm() / rows.norm()) == pytest.approx(
        error, rel=0.02
    )
    for index in (1, 2, 3):
        coded = Coded(
            codec=f"uniform:step={step}",
            dtype="float64",
            width=1,
            parts={
                "codes": torch.tensor([[index]], dtype=torch.int8),
                "scale": torch.ones(1, 1, dtype=torch.bfloat16),
            },
        )
        low, high = (index - 0.5) * step, (index + 0.5) * step
        mean = norm.expect(lambda x: x, lb=low, ub=high, conditional=True)
        assert float(decode_rows(coded, ENOUGH)) == pytest.approx(mean, rel=1e-6)


@settings(max_examples=60)
@given(st.integers(0, 2**31), st.sampled_from([8, 64, 256]), st.integers(1, 70), st.floats(-30, 30))
def test_each_number_lies_within_its_cell(seed: int, block: int, width: int, exponent: float) -> None:
    """Heavy tails included: no index is clamped, because a block bounds its own peak."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(3, width, generator=generator) ** 5 * 10.0**exponent
    step = math.sqrt(block) / 126 + 1e-6
    coded = encode_rows(rows, f"uniform:step={step:.6f}:block={block}")
    back, scale = decode_rows(coded, ENOUGH).double(), coded.parts["scale"].double()
    cell = scale.repeat_interleave(block, -1)[..., :width] * step
    assert ((back - rows.double()).abs() <= cell * (1 + 1e-3)).all()


def test_the_last_block_of_a_row_has_a_scale_of_its_own() -> None:
    rows = torch.cat([torch.full((1, 8), 100.0), torch.full((1, 2), 1.0)], -1)
    coded = encode_rows(rows, "uniform:step=0.35:block=8")
    assert coded.parts["scale"].tolist() == [[100.0, 1.0]]


def test_zeros_stay_zeros_and_rows_that_diverged_become_nan() -> None:
    rows = torch.zeros(3, 16)
    rows[1, 3], rows[2, 12] = float("nan"), -float("inf")
    back = there_and_back(rows, "uniform:step=0.35:block=8")
    assert torch.equal(back[0], rows[0])
    assert back[1, :8].isnan().all()
    assert torch.equal(back[1, 8:], rows[1, 8:])
    assert back[2, 8:].isnan().all()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"step": 0.1}, r"uniform: step must lie in \[0.127, 4\], got 0.1"),
        ({"step": float("nan")}, "got nan"),
        ({"step": 0.2, "block": 1024}, r"step must lie in \[0.254, 4\], got 0.2"),
        ({"block": 4}, r"uniform: block must lie in \[8, 4096\], got 4"),
    ],
)
def test_steps_whose_indices_have_more_than_8_bits_are_refused(
    options: dict[str, float], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        uniform(**options)  # type: ignore[arg-type]


SCALES = torch.ones(2, 1, dtype=torch.bfloat16)


@pytest.mark.parametrize(
    ("codes", "scale", "sentence"),
    [
        (torch.zeros(2, 3, dtype=torch.int8), SCALES.float(), "bfloat16 scales"),
        (torch.zeros(2, 3, dtype=torch.int8), SCALES[0], "bfloat16 scales"),
        (torch.zeros(2, 3, dtype=torch.uint8), SCALES, "codes must be of type torch.int8"),
        (torch.full((2, 3), -128, dtype=torch.int8), SCALES, r"codes must lie in \[-127, 127\], got -128"),
    ],
)
def test_parts_that_do_not_fit_are_refused(codes: Tensor, scale: Tensor, sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        decode_rows(
            Coded(codec="uniform", dtype="float32", width=3, parts={"codes": codes, "scale": scale}), ENOUGH
        )
