"""Frames in two parts: rows that may be lost, and all other bytes."""

import numpy as np
import pytest
import torch

from splitfl.config import CodecConfig
from splitfl.core.errors import WireError
from splitfl.core.messages import Done, Gradient
from splitfl.wire import Envelope, Frame, encode
from splitfl.wire.row_split import join, mask_bytes, split
from splitfl.wire.rows import row_bytes
from tests.splitfl.wire.test_frames import FINE, IDS, header
from tests.splitfl.wire.test_frames import frame as tampered

ROWS, WIDTH = 11, 7


def frame(codec: str = "none") -> bytes:
    grad = torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(0))
    message = Gradient(ids_B=torch.arange(3), grad=grad)
    return encode(message, Envelope(client=1, round=2, lap=3), CodecConfig(gradient=codec))


@pytest.mark.parametrize("codec", ["none", "bf16", "int8", "int4", "uniform"])
def test_a_frame_comes_back_from_its_parts(codec: str) -> None:
    sent = frame(codec)
    reliable, row_NB = split(sent)
    assert row_NB.shape == (ROWS, row_bytes(WIDTH, torch.float32, codec))
    assert len(reliable) == len(sent) - row_NB.size
    received = join(reliable, row_NB, np.ones(ROWS, dtype=bool))
    assert received.frame == sent
    assert received.arrived_N.all()


@pytest.mark.parametrize("codec", ["none", "int4"])
def test_rows_that_are_not_sent_are_zeros_and_count_as_arrived(codec: str) -> None:
    sent_N = np.arange(ROWS) % 3 > 0
    reliable, row_NB = split(frame(codec), sent_N)
    assert len(row_NB) == sent_N.sum()
    assert len(reliable) == len(split(frame(codec))[0]) + mask_bytes(ROWS)
    heard_N = np.arange(len(row_NB)) > 0
    received = join(reliable, row_NB * heard_N[:, None], heard_N)
    message, whole = Frame(received.frame).message(), Frame(frame(codec)).message()
    assert isinstance(message, Gradient)
    assert isinstance(whole, Gradient)
    assert np.array_equal(received.sent_N, sent_N)
    here_N = sent_N & received.arrived_N
    assert received.arrived_N.tolist() == [row != 1 for row in range(ROWS)]
    assert torch.equal(message.grad, whole.grad * torch.from_numpy(here_N)[:, None])


def test_parts_that_do_not_fit_are_refused() -> None:
    reliable, row_NB = split(frame())
    all_N = np.ones(ROWS, dtype=bool)
    for other, rows in ((reliable + b"12345", row_NB), (reliable, row_NB[1:]), (reliable[:-1], row_NB)):
        with pytest.raises(WireError, match="must have"):
            join(other, rows, all_N[: len(rows)])
    with pytest.raises(WireError, match="has no rows"):
        split(encode(Done(), Envelope(client=0, round=0, lap=0)))


@pytest.mark.parametrize(
    ("shape", "offsets"),
    [([1 << 60, 7], [8, 16]), ([3, 7], [8, 1 << 60]), ([-3, 7], [8, 16]), ([3, 7], [16, 8])],
)
def test_a_header_that_promises_more_than_a_frame_may_have_is_refused(
    shape: list[int], offsets: list[int]
) -> None:
    grad = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
    with pytest.raises(WireError, match=r"rows in|cannot be divided"):
        split(tampered(header("Gradient"), {**IDS, "grad": grad}, FINE * 2))
