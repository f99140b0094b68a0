"""Encoded differences turn the adapters that both ends hold into the same new ones, or are refused."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from splitfl.core.errors import WireError
from splitfl.wire.adapter_encoder import AdapterEncoder, SentAdapters
from splitfl.wire.differences import decode_differences, encode_differences, mask_of, names_in, rows_by_width

SHAPES = {"a": (4, 32), "b": (32, 4), "bias": (32,), "conv": (3, 2, 5, 5), "scale": (), "up": (7, 2)}
CODEC = "uniform:step=0.35:block=16"


def normal(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    chance = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=chance).to(dtype) for name, shape in SHAPES.items()}


def sent(encoder: AdapterEncoder, held: Mapping[str, Tensor], new: Mapping[str, Tensor]) -> SentAdapters:
    return encoder.sent(held, new, {}, version=1, base=0)


@given(st.sets(st.sampled_from(sorted(SHAPES))))
@settings(max_examples=20, deadline=None)
def test_differences_keep_their_values_and_shapes(names: set[str]) -> None:
    values = {name: value.bfloat16().float() for name, value in normal(0).items() if name in names}
    parts = encode_differences(rows_by_width(values), "bf16")
    got = decode_differences(parts, {name: value.shape for name, value in values.items()}, "bf16")
    assert got.keys() == names
    assert all(torch.equal(got[name], value) for name, value in values.items())
    assert names_in(mask_of(values, SHAPES), SHAPES) == sorted(names)


def test_a_rank_is_a_row_and_rows_of_one_width_share_a_message() -> None:
    rows = rows_by_width(normal(0))
    shapes = {name: part.shape for name, part in encode_differences(rows, "int8").items()}
    assert shapes["32"] == (4 + 4 + 1, 32)
    assert shapes["32.scale"] == (9,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_both_ends_have_the_same_tensors(dtype: torch.dtype) -> None:
    held, new = normal(0, dtype), {"b": normal(1, dtype)["b"], "bias": normal(1, dtype)["bias"]}
    made = sent(AdapterEncoder(codec=CODEC), held, new)
    got = AdapterEncoder(codec=CODEC).received(held, made.delta)
    assert got.keys() == new.keys()
    assert all(torch.equal(got[name], value) and value.dtype == dtype for name, value in made.tensors.items())
    off = (new["b"] - got["b"]).float().norm() / (new["b"] - held["b"]).float().norm()
    assert 0.0 < off < 0.12


def test_errors_fed_back_add_up_to_one() -> None:
    """What has been received after many messages lags behind what was meant by the last error alone."""
    encoder, held = AdapterEncoder(codec="uniform:step=1.5:block=16"), {"a": torch.zeros(4, 32)}
    meant, got, error = torch.zeros(4, 32), torch.zeros(4, 32), dict[str, Tensor]()
    for seed in range(20):
        change = normal(seed)["a"]
        made = encoder.sent(held, {"a": change}, error, version=1, base=0)
        meant, got, error = meant + change, got + made.tensors["a"], dict(made.error)
    assert torch.allclose(meant - got, error["a"], atol=1e-5)


def test_ends_that_hold_other_tensors_notice() -> None:
    encoder, held = AdapterEncoder(codec=CODEC), normal(0)
    delta = sent(encoder, held, {"a": normal(1)["a"]}).delta
    with pytest.raises(WireError, match="wrong checksum: client and server hold different adapters"):
        encoder.received({**held, "a": held["a"] + 1e-6}, delta)
    with pytest.raises(WireError, match="wrong checksum"):
        encoder.received(held, replace(delta, checksum=torch.zeros(1)))


def test_damaged_differences_are_refused() -> None:
    encoder, held = AdapterEncoder(codec="int8"), normal(0)
    delta = sent(encoder, held, {"a": normal(1)["a"]}).delta
    codes, scale = delta.tensors["32"], delta.tensors["32.scale"]
    for parts, why in (
        ({"32": codes[:2], "32.scale": scale[:2]}, "must have 4 rows of 32, got"),
        ({"32": codes.repeat(9, 1), "32.scale": scale.repeat(9)}, "must take at most 512 bytes, got 4608"),
        ({"32": codes}, "rows lack the parts scale"),
        ({**delta.tensors, "32.more": scale, "5": codes}, r"unknown parts \['5'\]"),
        ({"32": codes.float(), "32.scale": scale}, "codes must be of type torch.int8"),
    ):
        with pytest.raises(WireError, match=why):
            encoder.received(held, replace(delta, tensors=parts))
    for mask, why in (
        (torch.zeros(2, dtype=torch.uint8), r"a mask of 6 tensors cannot be torch.uint8 \[2\]"),
        (torch.tensor([128], dtype=torch.uint8), "a mask of 6 tensors has further bits"),
    ):
        with pytest.raises(WireError, match=why):
            encoder.received(held, replace(delta, which=mask))


def test_tensors_that_are_not_held_are_refused() -> None:
    encoder = AdapterEncoder(codec=CODEC)
    with pytest.raises(WireError, match="'new' is not among the adapters that the client had at first"):
        sent(encoder, normal(0), {"new": torch.zeros(3)})
    with pytest.raises(WireError, match=r"adapters of shape \[3\] must have that at first, \[4, 32\]"):
        sent(encoder, normal(0), {"a": torch.zeros(3)})
