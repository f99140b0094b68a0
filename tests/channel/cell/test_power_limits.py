import numpy as np
import pytest

from channel.cell.link_adaptation import SchemeLookup
from channel.cell.power_limits import GroupWorth, is_overfull
from channel.core.units import db_to_ratio
from channel.phy.block_error import BlockErrorLaw
from channel.phy.mcs import mcs_table

TABLE = mcs_table("64qam")
THRESHOLD_DB = BlockErrorLaw.of(TABLE).threshold_db(target=0.1, bits=1000.0)
LOOKUP = SchemeLookup.of(THRESHOLD_DB, TABLE.efficiency_I)


def test_the_value_of_a_further_group_is_its_added_capacity():
    sinr = np.asarray([10.0, db_to_ratio(THRESHOLD_DB[0]) * 2.5, 1e9, 0.0])
    worth = GroupWorth(LOOKUP, np.asarray([2.0, 1.0, 1.0, 4.0]), 4).of(np.tile(sinr, (4, 1)))
    both, three = 2.0 * np.log(11.0), 3.0 * np.log(1.0 + 10.0 * 2.0 / 3.0)
    assert worth[:3, 0] == pytest.approx([1.0, 1.0, (three - both) / np.log(11.0)])
    # Half of the power still carries the slowest scheme, a third does not.
    assert (worth[:, 1] > 0.0).tolist() == [True, True, False, False]
    # Far above the fastest scheme power is no matter.
    assert worth[:, 2] == pytest.approx(1.0)
    # With power for the whole band every group counts the same.
    assert (worth[:, 3] == 1.0).all()


def test_a_worth_is_constant_where_every_user_fills_the_band():
    assert GroupWorth(LOOKUP, np.asarray([4.0, 4.0 * (1.0 - 1e-12)]), 4).is_constant
    assert not GroupWorth(LOOKUP, np.asarray([4.0, 3.9]), 4).is_constant


def test_rounding_is_no_lack_of_power():
    assert not is_overfull(np.asarray([1.0 - 1e-12, 2.0]))
    assert is_overfull(np.asarray([0.99, 2.0]))
