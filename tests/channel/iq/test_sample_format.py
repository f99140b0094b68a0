"""Samples as bytes: floats, and 16-bit integers as srsRAN and SigMF have them."""

import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.iq.sample_format import FORMATS, format_of, samples_of


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_samples_come_back_within_the_resolution_of_their_format(name):
    form, parts = FORMATS[name], np.random.default_rng(0).uniform(-1.0, 1.0, 600).astype(np.float32)
    samples_B = parts.view(np.complex64)
    payload = form.encode(samples_B)
    assert len(payload) == samples_B.size * form.sample_bytes
    found_B, wrong = samples_of(payload, form)
    assert not wrong
    assert np.abs((found_B - samples_B).view(np.float32)).max() <= (0.51 / 32767 if name == "sc16" else 0.0)


def test_sixteen_bits_are_little_endian_scaled_by_32767_and_clipped():
    form = format_of("sc16")
    samples_B = np.asarray([1.0 - 0.5j, 2.0 - 3.0j, 0.0], dtype=np.complex64)
    assert np.frombuffer(form.encode(samples_B), "<i2").tolist() == [32767, -16384, 32767, -32767, 0, 0]
    assert form.clipped_share(samples_B) == pytest.approx(1 / 3)


def test_a_format_of_another_name_and_half_a_sample_are_refused():
    with pytest.raises(BadParameter, match="sample_format must be one of fc32, sc16, got 'cf32'"):
        format_of("cf32")
    assert samples_of(b"123", format_of("sc16"))[1] == "a message of 3 bytes, not of pairs of 16-bit integers"
