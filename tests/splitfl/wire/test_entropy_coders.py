"""Entropy-coded rows are those of the codec before, in close to as few bits as their entropy."""

import importlib.util
import sys
import zlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitfl.core.errors import ConfigError, WireError
from splitfl.wire.codecs.chain import codec_of
from splitfl.wire.rows import Coded, decode_rows, encode_rows, row_bytes
from tests.splitfl.wire.test_uniform import entropy, normal

ENOUGH = 1 << 40
NEEDS = {"huffman": "zlib", "zstd": "backports.zstd", "ans": "constriction"}


def installed(coder: str) -> bool:
    try:
        return importlib.util.find_spec(NEEDS[coder]) is not None or (
            coder == "zstd" and sys.version_info >= (3, 14)
        )
    except ModuleNotFoundError:
        return False


CODERS = [
    pytest.param(
        coder,
        marks=pytest.mark.skipif(not installed(coder), reason=f"{NEEDS[coder]} is not installed"),
    )
    for coder in NEEDS
]
SHAPES = [(0, 4), (3,), (1, 1), (2, 3, 7), (40, 384)]


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_decoded_rows_are_those_without_the_coder(coder: str, shape: tuple[int, ...]) -> None:
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for codec in ("uniform:step=0.75:block=64", *(["int8", "int4"] if coder != "ans" else [])):
        coded = encode_rows(rows, f"{codec}+{coder}")
        assert torch.equal(decode_rows(coded, ENOUGH), decode_rows(encode_rows(rows, codec), ENOUGH))
        assert row_bytes(shape[-1], rows.dtype, f"{codec}+{coder}") is None


@pytest.mark.parametrize(
    ("chain", "most"),
    [("uniform+huffman", 1.01), ("uniform:step=0.75+huffman", 1.015), ("uniform:step=1.5+huffman", 1.03)],
)
def test_huffman_codes_are_close_to_the_entropy(chain: str, most: float) -> None:
    assert bits(normal(256, 512), chain) <= most * order_0(normal(256, 512), chain)


@pytest.mark.skipif(not installed("ans"), reason="constriction is not installed")
@pytest.mark.parametrize("step", [0.35, 0.75, 1.5])
@pytest.mark.parametrize("rows", [4, 256])
def test_ans_reaches_the_entropy_even_in_small_messages(step: float, rows: int) -> None:
    """No table is sent: against the law's own entropy, 2,048 numbers cost as much each as 131,072."""
    law = torch.distributions.Normal(0.0, 1.0)
    edges = torch.arange(-40, 41, dtype=torch.float64) * step
    share = (law.cdf(edges + step / 2) - law.cdf(edges - step / 2)).clamp(min=1e-300)
    assert bits(normal(rows, 512), f"uniform:step={step}+ans") == pytest.approx(
        float(-(share * share.log2()).sum()), rel=0.05 if rows == 4 else 0.01
    )


def bits(rows: Tensor, chain: str) -> float:
    """Bits per number of the coded codes, checksum included."""
    return 8 * encode_rows(rows, chain).parts["codes"].numel() / rows.numel()


def order_0(rows: Tensor, chain: str) -> float:
    return entropy(encode_rows(rows, chain.partition("+")[0]).parts["codes"])


def test_codes_that_do_not_become_shorter_are_sent_as_they_are() -> None:
    rows = torch.tensor([[1.0, -3.0, 2.0]])
    codes = encode_rows(rows, "int8+huffman").parts["codes"]
    assert codes[0] == 0
    assert codes.numel() == 5 + 3


def good() -> Coded:
    return encode_rows(normal(4, 64), "uniform:step=0.75+huffman")


@settings(max_examples=100)
@given(st.data())
def test_a_flipped_bit_is_noticed(data: st.DataObject) -> None:
    coded = good()
    codes = coded.parts["codes"].clone()
    bit = data.draw(st.integers(0, 8 * codes.numel() - 1))
    codes[bit // 8] ^= 1 << bit % 8
    try:
        got = decode_rows(changed(coded, codes=codes), ENOUGH)
    except WireError:
        return
    assert torch.equal(got, decode_rows(coded, ENOUGH))  # a bit after the end of the codes


def changed(coded: Coded, **parts: Tensor) -> Coded:
    return Coded(codec=coded.codec, dtype=coded.dtype, width=coded.width, parts={**coded.parts, **parts})


def test_few_bytes_do_not_become_many() -> None:
    """A decoder stops where the codes should end, and a size above the frame's is refused before."""
    coder = zlib.compressobj(wbits=-15, strategy=zlib.Z_HUFFMAN_ONLY)
    bomb = coder.compress(bytes(1 << 24)) + coder.flush()
    packed = torch.frombuffer(bytearray(b"\1" + bytes(4) + bomb), dtype=torch.uint8)
    with pytest.raises(WireError, match="the data do not end after 256 bytes"):
        decode_rows(changed(good(), codes=packed), ENOUGH)
    wide = torch.tensor([1 << 30, 64])
    scale = torch.ones(1, dtype=torch.bfloat16).expand(1 << 30, 1)
    with pytest.raises(WireError, match="decoded rows must take at most 1000 bytes"):
        decode_rows(changed(good(), shape=wide, scale=scale), 1000)


@pytest.mark.parametrize(
    ("parts", "sentence"),
    [
        ({"codes": torch.zeros(3, dtype=torch.uint8)}, "must be at least 5 bytes, got torch.uint8"),
        ({"codes": torch.zeros(9)}, "must be at least 5 bytes, got torch.float32"),
        ({"codes": torch.full((9,), 7, dtype=torch.uint8)}, "unknown form 7"),
        ({"codes": torch.zeros(9, dtype=torch.uint8)}, "256 codes that are not coded have 4 bytes"),
        ({"codes": torch.zeros(261, dtype=torch.uint8)}, "wrong checksum"),
        ({"codes": torch.ones(9, dtype=torch.uint8)}, "cannot be decoded"),
        ({"shape": torch.tensor([4.0, 64.0])}, "the shape of codes must be 1 to 8 integers"),
        ({"shape": torch.tensor([-4, 64])}, r"the shape of codes is impossible: \[-4, 64\]"),
        ({"shape": torch.tensor([4, 63])}, "codes of rows of 64 numbers"),
        ({"shape": torch.tensor([2, 64])}, "bfloat16 scales"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts: dict[str, Tensor], sentence: str) -> None:
    with pytest.raises(WireError, match=sentence):
        decode_rows(changed(good(), **parts), ENOUGH)


@pytest.mark.parametrize(
    ("chain", "sentence"),
    [
        ("none+huffman", "none.huffman: an entropy coder must follow a codec whose codes are 8-bit integers"),
        ("bf16+huffman", "must follow a codec whose codes are 8-bit integers"),
        ("int8+ans", "must follow a codec whose codes have a known distribution, such as 'uniform'"),
        ("huffman", "a chain of codecs is a projection or none, a codec of rows, .*, got 'huffman'"),
        ("int8+int4", "a chain of codecs is a projection or none"),
        ("int8+huffman+huffman", "a chain of codecs is a projection or none"),
        ("int7", "unknown codec 'int7'"),
        ("uniform:step", "a codec is written name:option=value"),
        ("uniform:step=1:step=2", "a codec is written name:option=value"),
        ("uniform:width=1", "the codec 'uniform' has no option 'width'; it has step, block"),
        ("int8:step=1", "the codec 'int8' has no option 'step'; it has none"),
        ("uniform:step=half", "the option 'step' of the codec 'uniform' must be a number, got 'half'"),
        ("uniform:block=2.5", "must be a whole number, got '2.5'"),
        ("uniform" + "+huffman" * 20, "at most 120 characters"),
    ],
)
def test_chains_that_mean_nothing_are_refused(chain: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        codec_of(chain)


def test_a_missing_package_is_named_before_anything_is_encoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "constriction", None)
    with pytest.raises(ConfigError, match=r"'ans' needs the package constriction: pip install 'splitfl"):
        codec_of("uniform:step=0.5+ans")
