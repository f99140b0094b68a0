import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import BadParameter
from channel.phy.mcs import mcs_table
from channel.phy.transport_block import Allocation, code_blocks, transport_block_bits, transport_block_table

SLOT = Allocation()
TABLE = mcs_table("64qam")


def bits_of(mcs, resource_blocks=52, allocation=SLOT):
    return transport_block_bits(
        allocation,
        resource_blocks=resource_blocks,
        modulation_order=int(TABLE.modulation_order_I[mcs]),
        code_rate=float(TABLE.code_rate_I[mcs]),
    )


# 52 resource blocks, 14 symbols, 12 pilots each, 1 layer: 8,112 elements
@pytest.mark.parametrize(
    ("mcs", "bits", "blocks"), [(0, 1928, 1), (4, 4864, 1), (9, 10760, 2), (16, 21000, 3), (28, 45096, 6)]
)
def test_sizes_and_code_blocks_are_the_reference_values(mcs, bits, blocks):
    assert SLOT.elements * 52 == 8112
    assert bits_of(mcs) == bits
    assert code_blocks(bits, float(TABLE.code_rate_I[mcs]))[0] == blocks


@given(mcs=st.integers(0, 28), resource_blocks=st.integers(1, 275), layers=st.integers(1, 4))
def test_a_size_is_close_to_the_capacity_of_its_elements_and_divides_into_whole_bytes(
    mcs, resource_blocks, layers
):
    allocation = Allocation(layers=layers)
    bits = bits_of(mcs, resource_blocks, allocation)
    carried = allocation.elements * resource_blocks * layers * float(TABLE.efficiency_I[mcs])
    assert bits % 8 == 0
    assert bits >= 24
    assert bits == pytest.approx(carried, rel=0.06, abs=24)
    count, each = code_blocks(bits, float(TABLE.code_rate_I[mcs]))
    assert count * each >= bits + 16
    assert each <= 8448


@pytest.mark.parametrize("mcs", range(29))
def test_more_resource_blocks_never_carry_less(mcs):
    sizes = [bits_of(mcs, count) for count in range(276)]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0


def test_the_table_holds_every_size():
    table = transport_block_table(SLOT, TABLE, range(61))
    assert table.shape == (29, 61)
    assert table[9, 52] == 10760
    assert not table[:, 0].any()
    assert (table[:, 1:] >= 24).all()
    assert table.dtype == np.int64


@pytest.mark.parametrize(
    ("bits", "code_rate", "expected"),
    [
        (24, 0.9, (1, 40)),  # 16 bits of checksum
        (3824, 0.5, (1, 3840)),  # all that base graph 2 holds
        (3832, 0.2, (2, 1952)),  # slow: base graph 2, 24 bits of checksum on the whole and on each
        (8424, 0.9, (1, 8448)),  # all that base graph 1 holds
        (8432, 0.9, (2, 4252)),
    ],
)
def test_code_blocks_are_cut_where_the_base_graphs_end(bits, code_rate, expected):
    assert code_blocks(bits, code_rate) == expected


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: Allocation(symbols=15), r"symbols must lie in \[1, 14\], got 15"),
        (lambda: Allocation(layers=0), "layers must be a whole number of at least 1, got 0"),
        (lambda: Allocation(layers=9), r"layers must lie in \[1, 8\], got 9"),
        (
            lambda: Allocation(pilot_elements=-1),
            "pilot_elements must be a whole number of at least 0, got -1",
        ),
        (lambda: Allocation(symbols=1), "must keep at least 1 element for data, got 0"),
        (lambda: bits_of(0, -1), "resource_blocks must be a whole number of at least 0, got -1"),
        (lambda: code_blocks(0, 0.5), "block_bits must be a whole number of at least 1, got 0"),
        (
            lambda: transport_block_bits(SLOT, resource_blocks=1, modulation_order=2, code_rate=0.0),
            "code_rate must be above 0, got 0.0",
        ),
    ],
)
def test_invalid_values_are_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
