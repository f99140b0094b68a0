"""What a node measures of its codecs is what they did, in a sample of its messages."""

import math
from typing import Any

import pytest
import torch

from splitfl.config import CodecConfig
from splitfl.core.messages import Activation, Begin, Gradient, Leave
from splitfl.wire.codec_meter import EVERY, CodecMeter, codec_rows, entropy_bits
from splitfl.wire.rows import encode_rows
from tests.splitfl.wire.test_uniform import entropy, normal

ROWS = normal(64, 256)


def row(codec: str) -> dict[str, Any]:
    meter = CodecMeter()
    meter.rows("activation", [ROWS], codec)
    (found,) = codec_rows(meter, [])
    return found


def test_the_entropy_is_that_of_the_symbols() -> None:
    assert entropy_bits(torch.tensor([1, 1, 2, 2])) == 4.0
    assert entropy_bits(torch.tensor([3, 3, 3])) == 0.0
    codes = encode_rows(ROWS, "uniform").parts["codes"]
    assert row("uniform")["entropy_bits"] == pytest.approx(entropy(codes))


@pytest.mark.parametrize("coder", ["", "+huffman"])
def test_entropy_and_error_are_those_of_the_codes_before_the_coder(coder: str) -> None:
    found = row(f"uniform:step=0.75{coder}")
    assert found["relative_error"] == pytest.approx(0.212, rel=0.03)
    assert found["entropy_bits"] == pytest.approx(2.047 - math.log2(0.75), rel=0.03)
    assert (found["bits"] < 3.0) == bool(coder)
    assert found["encode_s"] > 0.0
    assert found["decode_s"] > 0.0


def test_symbols_of_every_stream_are_counted() -> None:
    assert row("bf16")["entropy_bits"] is None
    assert row("bf16")["bits"] == 16.0
    assert 3.0 < row("int4")["entropy_bits"] < 4.0
    gaps, kept = row("topk:k=16+int4")["entropy_bits"], row("topk:k=16+int4+huffman")
    assert gaps == pytest.approx(kept["entropy_bits"])
    assert gaps > math.log2(math.comb(256, 16)) / 256


def test_one_of_many_messages_is_measured() -> None:
    meter, message = CodecMeter(), Activation(ids_B=torch.arange(1), hidden=ROWS)
    config = CodecConfig(activation="int8")
    for _ in range(EVERY + 1):
        meter.message(message, config)
    meter.message(Gradient(ids_B=torch.arange(1), grad=ROWS), config)  # which has no codec
    meter.message(Activation(ids_B=torch.arange(1)), config)
    meter.message(Begin(steps=1), config)
    (use,) = meter.uses()
    assert use.values == 2 * ROWS.numel()
    other = CodecMeter()
    other.message(message, config)
    (found,) = codec_rows(other, [Leave(codecs=meter.uses())])
    assert found["values"] == 3 * ROWS.numel()
    assert found["bits"] == 8.0 + 32.0 / 256
