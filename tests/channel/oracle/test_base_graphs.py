"""The committed base graphs against the tables in the Sionna package."""

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from channel.coding.base_graph import lifted

# The largest lifting of each set of table 5.3.2-1
LARGEST = (256, 384, 320, 224, 288, 352, 208, 240)


@pytest.mark.parametrize("number", [1, 2])
def test_the_committed_base_graphs_are_those_of_sionna(number):
    sionna = find_spec("sionna")
    if sionna is None:
        pytest.skip("sionna-no-rt is not installed: pip install 'splitfl[oracle]'")
    folder = Path(next(iter(sionna.submodule_search_locations))) / "phy" / "fec" / "ldpc" / "codes"
    lines = (folder / f"5G_bg{number}.csv").read_text(encoding="utf-8").splitlines()[2:]
    cells = np.asarray([[int(cell) if cell.strip() else -1 for cell in line.split(";")] for line in lines])
    row, column, shifts = np.maximum.accumulate(cells[:, 0]), cells[:, 1], cells[:, 2:]
    for index, lifting in enumerate(LARGEST):
        graph = lifted(number, lifting * (22 if number == 1 else 10))
        assert graph.lifting == lifting
        assert np.array_equal(graph.column, column)
        assert np.array_equal(np.repeat(np.arange(graph.row_start.size - 1), np.diff(graph.row_start)), row)
        assert np.array_equal(graph.shift, shifts[:, index] % lifting)
