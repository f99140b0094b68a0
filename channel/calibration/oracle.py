"""The optional dependencies of the simulation: numba, and the code tables of Sionna."""

from importlib.util import find_spec
from pathlib import Path

from channel.core.errors import ChannelError


class MissingOracle(ChannelError):
    """The optional extra `oracle` is not installed."""


def require_oracle() -> None:
    """Raises MissingOracle, with the install command, unless numba and sionna-no-rt are installed."""
    missing = [name for name, part in (("numba", "numba"), ("sionna-no-rt", "sionna")) if not find_spec(part)]
    if missing:
        raise MissingOracle(
            f"simulating codes needs {' and '.join(missing)}; install with: pip install 'splitfl[oracle]'"
        )


def base_graph_file(number: int) -> Path:
    """The CSV file of base graph 1 or 2 in the Sionna package, found without importing it.

    Raises MissingOracle without Sionna.
    """
    require_oracle()
    found = find_spec("sionna")
    assert found is not None
    assert found.submodule_search_locations is not None
    folder = Path(next(iter(found.submodule_search_locations)))
    return folder / "phy" / "fec" / "ldpc" / "codes" / f"5G_bg{number}.csv"
