"""Projections keep what they say of each row, in the bytes that they say."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.setup.codecs import check_codecs, codecs_of_varying_size
from splitfl.setup.experiment_file import from_dict
from splitfl.wire.codecs.chain import codec_of
from splitfl.wire.rows import Coded, decode_rows, encode_rows, row_bytes
from tests.splitfl.wire.test_entropy_coders import changed
from tests.splitfl.wire.test_uniform import normal

ENOUGH = 1 << 40
CODERS = ("", "+huffman")


def there_and_back(rows: Tensor, codec: str) -> Tensor:
    return decode_rows(encode_rows(rows, codec), ENOUGH)


def size(coded: Coded) -> int:
    return sum(part.nbytes for part in coded.parts.values())


def error(rows: Tensor, codec: str) -> float:
    return float((there_and_back(rows, codec) - rows).norm() / rows.norm())


@given(
    st.lists(st.integers(0, 5), max_size=2),
    st.sampled_from([1, 7, 256, 300, 700, 40_000]),
    st.sampled_from([1, 3, 20]),
    st.sampled_from(CODERS),
)
@settings(max_examples=20, deadline=None)
def test_the_largest_numbers_come_back_and_the_others_are_zero(
    axes: list[int], width: int, k: int, coder: str
) -> None:
    rows = torch.randn(*axes, width, generator=torch.Generator().manual_seed(0))
    back = there_and_back(rows, f"topk:k={k}+{'int8' + coder if coder else 'none'}")
    kept = min(k, width)
    assert ((back != 0).sum(-1) <= kept).all()
    least = rows.abs().topk(kept).values[..., -1:]
    expected = torch.where(rows.abs() >= least, rows, 0.0)
    assert torch.allclose(back, expected, atol=0.03) if coder else torch.equal(back, expected)


def test_entropy_coded_gaps_take_about_log2_of_the_choices() -> None:
    """Sixty-four places in a row of 4,096: 7.36 bits each in place of 12."""
    rows = normal(256, 4096)
    coded = encode_rows(rows, "topk:k=64+int8+huffman")
    choices = (math.lgamma(4097) - math.lgamma(65) - math.lgamma(4033)) / math.log(2.0) / 64
    assert 7.3 < choices < 7.4
    assert 8.0 * coded.parts["gaps"].nbytes / (256 * 64) < 1.05 * choices
    assert torch.equal(decode_rows(coded, ENOUGH), there_and_back(rows, "topk:k=64+int8"))


@pytest.mark.parametrize(
    ("chain", "of_row"),
    [("topk:fraction=0.1", 10 * 4 + 10), ("topk:k=5+int8", 5 + 4 + 5), ("topk:k=5+bf16", 5 * 2 + 5)],
)
def test_a_sparse_row_takes_the_declared_number_of_bytes(chain: str, of_row: int) -> None:
    assert row_bytes(100, torch.float32, chain) == of_row
    assert size(encode_rows(normal(7, 100), chain)) == 7 * of_row


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rows_of_low_rank_come_back(dtype: torch.dtype) -> None:
    rows = (normal(200, 4) @ normal(4, 64)).to(dtype)
    back = there_and_back(rows.reshape(8, 25, 64), "lowrank:rank=4")
    assert back.dtype == dtype
    assert back.shape == (8, 25, 64)
    assert (back.reshape(200, 64) - rows).float().norm() < 0.01 * rows.float().norm()


def test_the_directions_are_about_the_best_ones() -> None:
    """Within two per cent of the error of the singular value decomposition, for a spectrum that decays."""
    rows = normal(512, 96) * torch.arange(1, 97) ** -1.0
    values = torch.linalg.svdvals(rows)
    for rank in (4, 16):
        best = float(values[rank:].norm() / values.norm())
        assert best <= error(rows, f"lowrank:rank={rank}") < 1.02 * best
    assert error(rows, "lowrank:rank=16+int8") < 1.02 * error(rows, "lowrank:rank=16")


def test_coordinates_take_the_declared_bytes_whatever_the_rows() -> None:
    for rows in (normal(40, 64), torch.zeros(40, 64)):
        coded = encode_rows(rows, "lowrank:rank=8+int8")
        assert size(coded) == 8 * 40 + 8 * 4 + 8 * 64 * 2 + 8
    codec = codec_of("lowrank:rank=8+int8")
    assert codec.unit_bytes is None
    assert codec.has_fixed_size
    assert not codec_of("lowrank+int8+huffman").has_fixed_size


@pytest.mark.parametrize("shape", [(0, 8), (2, 0, 8), (1, 8), (3, 8), (8,)], ids=str)
@pytest.mark.parametrize("coder", CODERS)
def test_few_rows_are_enough(shape: tuple[int, ...], coder: str) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for chain in (f"lowrank:rank=8+int8{coder}", f"topk:k=2+int8{coder}"):
        back = there_and_back(rows, chain)
        assert back.shape == shape
    assert torch.allclose(there_and_back(rows, f"lowrank:rank=8+int8{coder}"), rows, atol=0.1)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_what_diverged_stays_visible(bad: float) -> None:
    rows = normal(4, 32)
    rows[1, 3] = bad
    assert there_and_back(rows, "topk:k=2+int8")[1].isnan().any()
    assert there_and_back(rows, "lowrank:rank=2+int8").isnan().all()


def sparse(chain: str = "topk:k=3+int8") -> Coded:
    return encode_rows(normal(4, 32), chain)


def projected() -> Coded:
    return encode_rows(normal(10, 32), "lowrank:rank=4+int8")


@pytest.mark.parametrize(
    ("coded", "sentence"),
    [
        (changed(sparse(), gaps=torch.zeros(4, 3)), r"gaps of \[4, 3\] numbers must be torch.uint8"),
        (changed(sparse(), gaps=torch.zeros(4, 2, dtype=torch.uint8)), r"got torch.uint8 \[4, 2\]"),
        (changed(sparse(), gaps=torch.full((4, 3), 10, dtype=torch.uint8)), "must lead to places below 32"),
        (changed(sparse(), codes=torch.zeros(4, 5, dtype=torch.int8)), "rows of 3 numbers have shape"),
        (changed(sparse("topk:k=3+int8+huffman"), gaps=torch.zeros(2, dtype=torch.uint8)), "their number"),
        (
            changed(sparse("topk:k=3+int8+huffman"), gaps=torch.full((9,), 9, dtype=torch.uint8)),
            "12 gaps below 32 cannot have 151587081 symbols",
        ),
        (changed(projected(), axes=torch.tensor([-1])), "the axes of rows are impossible"),
        (changed(projected(), axes=torch.tensor([1 << 30, 1 << 30])), "impossible"),
        (changed(projected(), axes=torch.tensor([11])), "rows of 11 numbers have shape"),
        (changed(projected(), axes=torch.zeros(1)), "must be at most 8 integers"),
        (changed(projected(), basis=torch.zeros(4, 31).bfloat16()), "coordinates along 4 directions of 32"),
        (changed(projected(), basis=torch.zeros(4, 32)), "with directions torch.float32"),
    ],
)
def test_parts_that_do_not_fit_are_refused(coded: Coded, sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        decode_rows(coded, ENOUGH)


def test_a_bomb_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(WireError, match="decoded rows must take at most 1000 bytes"):
        decode_rows(projected(), 1000)


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ("topk:k=2:fraction=0.5", "either a fraction in .* or k of at least 1, got fraction=0.5 and k=2"),
        ("topk:k=0", "got fraction=0 and k=0"),
        ("topk:fraction=1.5", "got fraction=1.5 and k=0"),
        ("lowrank:rank=0", r"lowrank: rank must lie in \[1, 1024\], got 0"),
        ("topk+huffman", "a chain of codecs is a projection or none, a codec of rows"),
        ("int8+topk", "a chain of codecs is a projection or none"),
        ("topk+lowrank+int8", "a chain of codecs is a projection or none"),
        ("topk+bf16+huffman", "must follow a codec whose codes are 8-bit integers"),
        ("topk+uniform+ans", "must follow a codec whose codes have a known distribution"),
    ],
)
def test_impossible_compositions_are_refused(chain: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        codec_of(chain)


def test_a_rank_above_the_width_is_refused_before_a_run() -> None:
    chain, rows = "lowrank:rank=64+int8", normal(4, 32)
    with pytest.raises(ConfigError, match=r"rank=64\+int8' needs rows of at least 64 numbers, got 32"):
        encode_rows(rows, chain)
    with pytest.raises(WireError, match="a row must have at least 64 numbers, got 32"):
        decode_rows(Coded(codec=chain, dtype="float32", width=32, parts=projected().parts), ENOUGH)
    config = from_dict({"codec": {"gradient": chain}})
    with pytest.raises(ConfigError, match=r"codec.gradient .* needs rows of at least 64 .* states have 32"):
        check_codecs(config, width=32)
    check_codecs(config, width=64)
    with pytest.raises(ConfigError, match=r"codec.adapter_up must be a codec of rows of any width"):
        check_codecs(from_dict({"codec": {"adapter_up": chain}}), width=64)


@pytest.mark.parametrize(
    ("chain", "varies", "is_lossless_only"),
    [("topk+int8", False, False), ("lowrank+int8", False, True), ("topk+int8+huffman", True, True)],
)
def test_rows_without_a_size_of_their_own_are_sent_reliably(
    chain: str, varies: bool, is_lossless_only: bool
) -> None:
    tables: dict[str, Any] = {"codec": {"activation": chain}}
    assert codecs_of_varying_size(from_dict(tables)) == ([chain] if varies else [])
    lossy = from_dict({**tables, "erasure": {"activation": "zero"}})
    if is_lossless_only:
        with pytest.raises(ConfigError, match=r"erasure.activation must be 'reliable'"):
            check_codecs(lossy, width=64)
    else:
        check_codecs(lossy, width=64)
