import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.waveform.header import HEADER_BYTES, Header, PayloadFormat, has_checksum, pack, unpack

BYTE, SHORT = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
HEADERS = st.builds(
    Header,
    kind=BYTE,
    source=BYTE,
    target=BYTE,
    flags=BYTE,
    sequence=SHORT,
    next_expected=SHORT,
    bitmap=st.integers(0, 0xFFFFFFFF),
)
FORMATS = st.builds(PayloadFormat, st.integers(0, 31), st.integers(0, 1023), st.integers(0, 16_383))


@given(form=FORMATS, header=HEADERS, bit=st.integers(0, 8 * HEADER_BYTES - 1))
def test_a_header_comes_back_and_an_error_of_one_bit_is_noticed(form, header, bit):
    block = pack(form, header)
    assert len(block) == HEADER_BYTES
    assert has_checksum(block)
    assert unpack(block) == (form, header)
    broken = (int.from_bytes(block, "big") ^ 1 << bit).to_bytes(HEADER_BYTES, "big")
    assert not has_checksum(broken)


def test_a_block_of_zeros_is_no_header():
    assert not has_checksum(bytes(HEADER_BYTES))


@pytest.mark.parametrize(("name", "value"), [("kind", 256), ("sequence", -1), ("bitmap", 1 << 32)])
def test_values_that_do_not_fit_are_refused_by_name(name, value):
    with pytest.raises(BadParameter, match=rf"{name} must lie in \[0, .*\], got {value}"):
        Header(**{name: value})
