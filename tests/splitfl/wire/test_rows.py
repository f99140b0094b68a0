"""Rounding is within its bound, keeps shapes and types, hides no divergence and takes the bytes it says."""

import math

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitfl.config import CODECS
from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs import CODECS as ROWS
from splitfl.wire.codecs import Codec
from splitfl.wire.rows import Coded, decode_rows, encode_rows, row_bytes

ROUNDING = [name for name, codec in ROWS.items() if isinstance(codec, Codec) and name != "none"]
REPEATABLE = ["bf16", "int8", "int4"]
ONE_ROUNDING = [
    pytest.param(codec, marks=[] if codec == "int4" else pytest.mark.slow) for codec in REPEATABLE
]
"""The coarsest in the quick suite: hundreds of examples of each codec take a while."""
LEVELS = {"int8": 127, "int4": 7}
DTYPES = [torch.float32, torch.bfloat16, torch.float16, torch.float64]
ENOUGH = 1 << 40
FINITE = st.floats(allow_nan=False, allow_infinity=False, width=32)


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    """Float32 rows of one to nine numbers of any size, behind up to three other axes."""
    shape = (*draw(st.lists(st.integers(0, 3), max_size=3)), draw(st.integers(1, 9)))
    count = math.prod(shape)
    numbers = draw(st.lists(FINITE, min_size=count, max_size=count))
    return torch.tensor(numbers, dtype=torch.float32).reshape(shape)


def test_each_codec_has_a_row() -> None:
    assert tuple(CODECS) == tuple(ROWS)


def there_and_back(rows: Tensor, codec: str) -> Tensor:
    return decode_rows(encode_rows(rows, codec), ENOUGH)


@pytest.mark.slow
@pytest.mark.parametrize("codec", ROUNDING)
@settings(max_examples=200)
@given(tensors(), st.sampled_from(DTYPES))
@example(torch.full((2, 3), 1e30), torch.float16)
def test_shape_and_type_come_back(codec: str, rows: Tensor, dtype: torch.dtype) -> None:
    back = there_and_back(rows.to(dtype), codec)
    assert (back.shape, back.dtype) == (rows.shape, dtype)


@pytest.mark.parametrize("codec", [pytest.param("int8", marks=pytest.mark.slow), "int4"])
@settings(max_examples=150)
@given(tensors())
@example(torch.tensor([torch.finfo(torch.float32).max, 1.0, -1.0]))
@example(torch.tensor([[1e-45, -3e-39], [0.0, 0.0]]))
def test_every_number_is_within_half_a_step(codec: str, rows: Tensor) -> None:
    coded = encode_rows(rows, codec)
    bound = coded.parts["scale"].double() / 2 * (1 + 2**-20)  # the division by the scale is rounded, too
    off = (decode_rows(coded, ENOUGH).double() - rows.double()).abs()
    assert (off <= bound[..., None]).all()


@pytest.mark.slow
@pytest.mark.parametrize("codec", ONE_ROUNDING)
@settings(max_examples=150)
@given(tensors())
def test_decoded_rows_are_encoded_to_the_same_bytes(codec: str, rows: Tensor) -> None:
    first = encode_rows(rows, codec)
    again = encode_rows(decode_rows(first, ENOUGH), codec)
    assert {*again.parts} == {*first.parts}
    assert all(torch.equal(again.parts[name], part) for name, part in first.parts.items())


@pytest.mark.parametrize("codec", ONE_ROUNDING)
@given(tensors())
def test_a_coded_row_takes_the_declared_number_of_bytes(codec: str, rows: Tensor) -> None:
    coded = encode_rows(rows, codec)
    width, count = rows.shape[-1], rows.shape[:-1].numel()
    wanted = {"bf16": 2 * width, "int8": width + 4, "int4": (width + 1) // 2 + 4, "uniform": width + 2}[codec]
    assert row_bytes(width, rows.dtype, codec) == wanted
    assert sum(part.nbytes for part in coded.parts.values()) == count * wanted


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_a_codec_a_row_takes_its_own_bytes(dtype: torch.dtype) -> None:
    assert row_bytes(5, dtype, "none") == torch.ones(5, dtype=dtype).nbytes


@pytest.mark.parametrize("codec", REPEATABLE)
def test_rows_of_zeros_stay_zeros(codec: str) -> None:
    rows = torch.zeros(3, 5)
    rows[1] = LEVELS.get(codec, 1)
    assert torch.equal(there_and_back(rows, codec), rows)


@pytest.mark.parametrize("codec", LEVELS)
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_row_that_diverged_is_nan_and_no_other(codec: str, bad: float, dtype: torch.dtype) -> None:
    whole = torch.full((2, 3, 5), LEVELS[codec], dtype=dtype)
    rows = whole.clone()
    rows[1, 2, 4] = bad
    back = there_and_back(rows, codec)
    assert back[1, 2].isnan().all()
    back[1, 2] = whole[1, 2]
    assert torch.equal(back, whole)


def test_brain_floats_are_torchs_own() -> None:
    rows = torch.tensor([[1.0, math.pi, -1e-40, 1e38, float("inf")]])
    assert torch.equal(there_and_back(rows, "bf16"), rows.bfloat16().float())
    assert there_and_back(torch.tensor([float("nan")]), "bf16").isnan().all()


@pytest.mark.parametrize("codec", LEVELS)
def test_halves_are_rounded_to_even(codec: str) -> None:
    levels = LEVELS[codec]
    rows = torch.tensor([[levels, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5]])
    assert there_and_back(rows, codec).tolist() == [[levels, 0.0, 2.0, 2.0, 0.0, -2.0, -2.0]]


def test_two_numbers_share_a_byte_the_first_one_low() -> None:
    coded = encode_rows(torch.tensor([7.0, -7.0, 1.0]), "int4")
    assert coded.parts["codes"].tolist() == [0x97, 0x01]


@pytest.mark.parametrize(("codec", "least", "most"), [("int8", 0.006, 0.008), ("int4", 0.115, 0.14)])
def test_gaussian_rows_are_off_by_as_much_as_a_uniform_error_says(
    codec: str, least: float, most: float
) -> None:
    """A step s leaves s / sqrt(12), with s the row's peak over its levels: rows of 384 numbers."""
    rows = torch.randn(2000, 384, generator=torch.Generator().manual_seed(0))
    off = (there_and_back(rows, codec) - rows).norm() / rows.norm()
    steps = rows.abs().amax(-1) / LEVELS[codec]
    assert off == pytest.approx(float(steps.square().mean().sqrt()) / math.sqrt(12), rel=0.01)
    assert least < off < most


@pytest.mark.parametrize(
    "rows", [torch.tensor(1.0), torch.ones(2, 0), torch.ones(2, 3, dtype=torch.int64)], ids=str
)
def test_tensors_without_floating_point_rows_are_refused(rows: Tensor) -> None:
    with pytest.raises(ConfigError, match="'int8' encodes rows of floating-point numbers, got"):
        encode_rows(rows, "int8")


BYTES = torch.zeros(2, 3, dtype=torch.int8)
SCALES = torch.ones(2)


def coded(codes: Tensor = BYTES, scale: Tensor | None = SCALES, width: int = 3, **names: str) -> Coded:
    parts = {"codes": codes} | ({"scale": scale} if scale is not None else {})
    return Coded(**{"codec": "int8", "dtype": "float32", **names}, parts=parts, width=width)


@pytest.mark.parametrize(
    ("damaged", "sentence"),
    [
        (coded(codec="int3"), "unknown codec 'int3'; have none, bf16, int8"),
        (
            coded(dtype="int64"),
            "the type of rows must be one of float32, bfloat16, float16, float64, got 'int64'",
        ),
        (coded(BYTES.float()), r"int8: codes must be of type torch.int8, got torch.float32"),
        (coded(width=4), r"int8: codes of rows of 4 numbers have shape \[2, 3\]"),
        (coded(width=-1), "int8: a row must have at least 1 numbers, got -1"),
        (coded(BYTES[:, :0], width=0), "int8: a row must have at least 1 numbers, got 0"),
        (
            coded(torch.tensor(1, dtype=torch.int8), torch.tensor(1.0), 1),
            r"1 numbers have shape \[\]",
        ),
        (coded(BYTES.byte(), codec="int4", width=3), r"int4: codes of rows of 3 numbers have shape \[2, 3\]"),
        (
            coded(BYTES.byte(), codec="int4", width=2**62),
            "int4: codes of rows of 4611686018427387904 numbers",
        ),
        (coded(scale=None), "int8: rows lack the parts scale"),
        (coded(scale=SCALES.double()), r"must have float32 scales of \[2\], got torch.float64"),
        (coded(scale=SCALES[:1]), r"must have float32 scales of \[2\], got torch.float32 of \[1\]"),
        (coded(scale=torch.ones(2, 1)), r"got torch.float32 of \[2, 1\]"),
    ],
)
def test_parts_that_do_not_go_together_are_refused(damaged: Coded, sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        decode_rows(damaged, ENOUGH)


def test_more_than_is_allowed_is_refused_before_it_is_made() -> None:
    assert decode_rows(coded(), 24).nbytes == 24
    with pytest.raises(WireError, match="int8: decoded rows must take at most 23 bytes, got 24"):
        decode_rows(coded(), 23)
    endless = torch.zeros(1, 1, dtype=torch.uint8).expand(2**40, 1)  # takes no memory as it is
    with pytest.raises(WireError, match="bytes, got 8796093022208"):
        decode_rows(coded(endless, torch.ones(1).expand(2**40), 2, codec="int4"), ENOUGH)
