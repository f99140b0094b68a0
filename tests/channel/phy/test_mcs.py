import numpy as np
import pytest

from channel.core.errors import BadParameter
from channel.phy.mcs import CQI_TABLES, MCS_TABLES, cqi_table, mcs_table

# Spectral efficiencies as printed in the standard's own last column
EFFICIENCY = {
    "64qam": [
        *(0.2344, 0.3066, 0.3770, 0.4902, 0.6016, 0.7402, 0.8770, 1.0273, 1.1758, 1.3262, 1.3281, 1.4766),
        *(1.6953, 1.9141, 2.1602, 2.4063, 2.5703, 2.5664, 2.7305, 3.0293, 3.3223, 3.6094, 3.9023, 4.2129),
        *(4.5234, 4.8164, 5.1152, 5.3320, 5.5547),
    ],
    "256qam": [
        *(0.2344, 0.3770, 0.6016, 0.8770, 1.1758, 1.4766, 1.6953, 1.9141, 2.1602, 2.4063, 2.5703, 2.7305),
        *(3.0293, 3.3223, 3.6094, 3.9023, 4.2129, 4.5234, 4.8164, 5.1152, 5.3320, 5.5547, 5.8906, 6.2266),
        *(6.5703, 6.9141, 7.1602, 7.4063),
    ],
}
CQI_EFFICIENCY = {
    "64qam": [
        *(0.1523, 0.2344, 0.3770, 0.6016, 0.8770, 1.1758, 1.4766, 1.9141, 2.4063, 2.7305, 3.3223, 3.9023),
        *(4.5234, 5.1152, 5.5547),
    ],
    "256qam": [
        *(0.1523, 0.3770, 0.8770, 1.4766, 1.9141, 2.4063, 2.7305, 3.3223, 3.9023, 4.5234, 5.1152, 5.5547),
        *(6.2266, 6.9141, 7.4063),
    ],
}


@pytest.mark.parametrize("name", sorted(MCS_TABLES))
def test_efficiencies_are_those_printed_in_ts_38214(name):
    assert mcs_table(name).efficiency_I == pytest.approx(EFFICIENCY[name], abs=5.1e-5)
    assert cqi_table(name).efficiency_I == pytest.approx(CQI_EFFICIENCY[name], abs=5.1e-5)
    assert CQI_TABLES[name].size == 15


def test_indices_are_those_of_the_standard():
    table = mcs_table("64qam")
    assert [int(table.modulation_order_I[table.index(number)]) for number in (0, 9, 10, 16, 17, 28)] == [
        *(2, 2, 4, 4, 6, 6)
    ]
    assert cqi_table("64qam").index(1) == 0
    assert float(table.code_rate_I[28]) == 948 / 1024


def test_efficiency_decreases_only_where_the_standards_does():
    for name, falls in (("64qam", 1), ("256qam", 0)):
        assert int(np.sum(np.diff(mcs_table(name).efficiency_I) < 0.0)) == falls


@pytest.mark.parametrize(
    ("refuse", "message"),
    [
        (lambda: mcs_table("1024qam"), "MCS table must be one of 64qam, 256qam, got '1024qam'"),
        (lambda: cqi_table("qpsk"), "CQI table must be one of 64qam, 256qam, got 'qpsk'"),
        (lambda: mcs_table("64qam").index(29), r"64qam MCS index must lie in \[0, 28\], got 29"),
        (lambda: cqi_table("64qam").index(0), r"64qam CQI index must lie in \[1, 15\], got 0"),
    ],
)
def test_an_unknown_table_or_index_is_refused_by_name(refuse, message):
    with pytest.raises(BadParameter, match=message):
        refuse()
