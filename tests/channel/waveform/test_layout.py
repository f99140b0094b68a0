import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.waveform.header import PayloadFormat
from channel.waveform.layout import LEAST_MCS, MCS_TABLE, Layout, header_code, header_symbols
from channel.waveform.numerology import FFT_SIZES, SMALLEST, Numerology

FORMATS = st.builds(
    PayloadFormat, st.integers(LEAST_MCS, MCS_TABLE.size - 1), st.integers(0, 40), st.integers(1, 1600)
).filter(lambda form: form.units * form.size <= 65_535)


@given(form=FORMATS, fft_size=st.sampled_from(FFT_SIZES))
@settings(max_examples=100, deadline=None)
def test_blocks_fit_their_symbols_at_the_rate_of_their_scheme(form, fft_size):
    numerology = Numerology(fft_size=fft_size)
    layout, carriers = Layout.of(form, numerology), numerology.data_D.size
    bits = 8 * (layout.block_bytes + 3)
    assert bits <= 8448
    assert layout.blocks * layout.elements <= layout.symbols * carriers
    assert layout.symbols * carriers - layout.blocks * layout.elements < layout.blocks
    nominal = round(bits / layout.code_rate / layout.modulation_order)
    assert nominal <= layout.elements <= nominal + carriers
    if nominal < 10 * carriers:
        assert layout.elements % carriers == 0  # every subcarrier equally often
    units = np.arange(layout.units * layout.unit_bytes).astype(np.uint8).reshape(layout.units, -1)
    assert np.array_equal(layout.join(layout.split(units)), units)


def test_the_code_fills_the_elements_of_a_block():
    layout = Layout.of(PayloadFormat(16, 0, 1400), SMALLEST)
    assert (layout.blocks, layout.code.bits) == (2, 5640)
    assert layout.code.sent_E.size == layout.elements * layout.modulation_order


@pytest.mark.parametrize("fft_size", FFT_SIZES)
def test_the_header_has_a_rate_of_a_quarter_or_less_over_whole_symbols(fft_size):
    numerology = Numerology(fft_size=fft_size)
    code = header_code(numerology)
    assert code.bits / code.sent_E.size <= 0.25
    assert code.sent_E.size == 2 * header_symbols(numerology) * numerology.data_D.size


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (PayloadFormat(5, 0, 100), r"mcs must lie in \[6, 28\], got 5"),
        (PayloadFormat(29, 0, 100), r"mcs must lie in \[6, 28\], got 29"),
        (PayloadFormat(9, 0, 16_384), r"size must lie in \[0, 16383\], got 16384"),
        (PayloadFormat(9, 1024, 1), r"units must lie in \[0, 1023\], got 1024"),
        (PayloadFormat(9, 3, 0), "units must have at least 1 byte each"),
        (PayloadFormat(9, 100, 1000), "must have at most 65535 bytes, got 100000"),
    ],
)
def test_formats_that_are_not_offered_are_refused(form, message):
    with pytest.raises(BadParameter, match=message):
        Layout.of(form, SMALLEST)
