"""The channel from Python: one function, arrays for each user, and nothing imported before it is used."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import channel
from channel.cell.build_cell import cell_of


def test_importing_channel_imports_nothing_heavy() -> None:
    code = "import channel, sys; sys.exit(bool({'numpy', 'scipy'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(channel.__file__).parents[1]).returncode == 0


def test_every_name_is_there_and_another_is_an_attribute_error() -> None:
    assert all(getattr(channel, name) is not None for name in channel.__all__)
    assert dir(channel) == sorted(channel.__all__)
    with pytest.raises(AttributeError, match="module 'channel' has no attribute 'simulte'"):
        channel.simulte  # type: ignore[attr-defined]  # noqa: B018


def test_a_simulation_is_the_cells_own() -> None:
    found = channel.simulate("vehicular", duration_s=0.1, seed=3)
    result = cell_of(replace(channel.load_scenario("vehicular"), seed=3)).simulate(0.1)
    for direction, outcome in result.outcomes.items():
        columns = found.columns(direction)
        np.testing.assert_array_equal(columns["throughput_bps"], outcome.throughput_bps)
        np.testing.assert_array_equal(columns["loss_rate"], outcome.loss_rate)
    np.testing.assert_array_equal(found.energy_j, result.energy_j)
    assert repr(found).startswith(f"<Simulation of {found.users} users for 0.1 s: up ")


def test_delay_counts_from_the_start_of_the_traffic() -> None:
    traffic = {"up_bytes": 1e4, "down_bytes": 0.0, "start_s": 0.02}
    found = channel.simulate("ideal", duration_s=0.3, place={"users": 2}, traffic=traffic)
    assert found.users == 2
    delay_s = found.columns("up")["delay_s"]
    np.testing.assert_allclose(delay_s, found.up.finish_s - 0.02)
    assert np.all((delay_s > 0.0) & (delay_s < 0.28))
    assert np.isnan(found.columns("down")["delay_s"]).all()


@pytest.mark.parametrize(
    ("tables", "reason"),
    [
        ({"place": {"usres": 2}}, r"unknown key 'place.usres'; did you mean 'users'\?"),
        ({"plcae": {"users": 2}}, r"unknown table 'plcae'; did you mean 'place'\?"),
        ({"place": {"users": "two"}}, "place.users must be of type int, got 'two'"),
        ({"place": 2}, "place must be a table, got 2"),
    ],
)
def test_an_unknown_key_or_table_is_refused_by_name(tables: dict[str, Any], reason: str) -> None:
    with pytest.raises(channel.BadParameter, match=reason):
        channel.simulate("ideal", **tables)
