"""What a rehearsal says a run will cost is what the run's own ledger says it has cost."""

from pathlib import Path

import pytest

from splitfl.adapters.registry import ADAPTERS
from splitfl.config import CodecConfig
from splitfl.controller.dry_run import run_dry
from splitfl.methods.registry import METHODS
from tests.quick import quick
from tests.splitfl import toy
from tests.splitfl.adapters.kinds import MOST
from tests.splitfl.driver import play
from tests.splitfl.methods.test_conformance import site

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

QUICK = ("sfl-v2", "hybrid", "frozen", "fedlora")


place = toy.place(is_base=True, rows=40)


@pytest.mark.parametrize("name", quick(METHODS, "sfl-v2"))
def test_bytes_airtime_and_flops_are_the_ledgers_own(name: str, place: Path, tmp_path: Path) -> None:
    way = {"rate_bps": 1e6, "delay_s": 0.01}
    one = site(place, name, link={"up": way, "down": way})
    planned, played = run_dry(one), play(one, tmp_path)
    assert planned.ledger == played.ledger
    assert planned.virtual_s == played.ends[-1].finish_s


@pytest.mark.slow
@pytest.mark.parametrize("kind", ADAPTERS)
@pytest.mark.parametrize("name", ["sfl-v2", "hybrid", "fedlora", "decomfl"])
def test_bytes_and_flops_of_every_kind_are_the_ledgers_own(
    name: str, kind: str, place: Path, tmp_path: Path
) -> None:
    own = {"kind": kind, **({"rank": MOST[kind]} if kind in MOST else {})}
    clients = 2 if ADAPTERS[kind].linear is True else 1  # of which no mean is exact
    one = site(place, name, clients, adapter={side: own for side in ("head", "body")})
    assert one.config.adapter.body.kind == kind
    assert run_dry(one).ledger == play(one, tmp_path).ledger


def encoded_kinds(method: str) -> set[str]:
    """The kinds of message of a method that a codec may encode, adapters among them."""
    return {kind for kind in CodecConfig().by_kind() if f"codec.{kind}" in METHODS[method].reads}


@pytest.mark.parametrize("codec", quick(("int8", "bf16", "int4"), "int8"))
@pytest.mark.parametrize("name", quick(("sfl-v2", "ushape", "hybrid", "frozen"), "sfl-v2"))
def test_rounded_bytes_are_the_ledgers_own(name: str, codec: str, place: Path, tmp_path: Path) -> None:
    way = {"rate_bps": 1e6, "delay_s": 0.01, "loss_rate": 0.1}
    kinds = encoded_kinds(name)
    loss = {} if name == "frozen" else {"activation": "zero", "gradient": "zero"}
    one = site(
        place,
        name,
        codec=dict.fromkeys(kinds, codec),
        link={"mtu_bytes": 128, "up": way, "down": way},
        erasure=loss,
    )
    planned, played = run_dry(one), play(one, tmp_path)
    assert planned.ledger == played.ledger
    exact = run_dry(site(place, name, link={"up": way, "down": way})).ledger
    assert planned.ledger.total().payload_bytes < exact.total().payload_bytes


@pytest.mark.slow
def test_a_client_without_backpropagation_saves_nothing(place: Path) -> None:
    assert run_dry(site(place, "hybrid")).client.saved_bytes == 0
    learning = run_dry(site(place, "sfl-v2")).client
    assert learning.saved_bytes > 0
    assert learning.optimiser_bytes > 2 * learning.gradient_bytes  # two moments, and a count of steps each


@pytest.mark.parametrize("name", quick(("sfl-v2", "ushape", "cse-fsl"), "sfl-v2"))
@pytest.mark.parametrize("step", quick((0.35, 0.75, 1.5), 0.75))
def test_bytes_of_entropy_coded_messages_are_estimated(
    name: str, step: float, place: Path, tmp_path: Path
) -> None:
    kinds = encoded_kinds(name)
    codec = f"uniform:step={step}:block=8+huffman"
    one = site(place, name, codec=dict.fromkeys(kinds, codec))
    planned, played = run_dry(one).ledger.total(), play(one, tmp_path).ledger.total()
    assert planned.payload_bytes == pytest.approx(played.payload_bytes, rel=0.03)
