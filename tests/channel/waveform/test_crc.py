import numpy as np

from channel.core.rng import stream
from channel.waveform.crc import crc24, with_crc24


def by_bits(data):
    """The remainder by long division, one bit at a time, from a register of ones."""
    rest = 0xFFFFFF
    for bit in np.unpackbits(data):
        feedback = (rest >> 23) ^ int(bit)
        rest = (rest << 1) & 0xFFFFFF ^ (0x800063 if feedback else 0)
    return rest


def test_the_checksum_is_that_of_the_polynomial():
    rows = stream(0, "crc").integers(0, 256, (5, 40), dtype=np.uint8)
    assert crc24(rows).tolist() == [by_bits(row) for row in rows]


def test_a_block_with_its_checksum_leaves_nothing_and_one_with_an_error_something():
    rows = with_crc24(stream(1, "crc").integers(0, 256, (8, 33), dtype=np.uint8))
    assert rows.shape == (8, 36)
    assert not crc24(rows).any()
    for index, row in enumerate(rows):
        row[4 * index] ^= 1 << index
    assert crc24(rows).all()


def test_a_block_of_zeros_has_no_right_checksum():
    assert crc24(np.zeros((1, 100), dtype=np.uint8))[0] != 0
