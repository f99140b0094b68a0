"""What a rehearsal says a run will cost is what the run's own ledger says it has cost."""

from pathlib import Path

import pytest

from splitfl.methods.registry import METHODS
from splitfl.node.rehearsal import rehearse
from tests.splitfl import toy
from tests.splitfl.driver import play
from tests.splitfl.methods.test_conformance import site

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

QUICK = ("sfl-v2", "hybrid", "frozen", "fedlora")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("place")
    toy.model(folder / "model", is_base=True)
    toy.data(folder / "data.tsv", rows=40)
    return folder


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in METHODS]
)
def test_bytes_airtime_and_flops_are_the_ledgers_own(name: str, place: Path, tmp_path: Path) -> None:
    way = {"rate_bps": 1e6, "delay_s": 0.01}
    one = site(place, name, link={"up": way, "down": way})
    planned, played = rehearse(one), play(one, tmp_path)
    assert planned.ledger == played.ledger
    assert planned.virtual_s == played.ends[-1].finish_s


def test_a_client_without_backpropagation_saves_nothing(place: Path) -> None:
    assert rehearse(site(place, "hybrid")).client.saved_bytes == 0
    learning = rehearse(site(place, "sfl-v2")).client
    assert learning.saved_bytes > 0
    assert learning.optimiser_bytes > 2 * learning.gradient_bytes  # two moments, and a count of steps each
