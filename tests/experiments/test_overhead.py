"""Methods beside the same mathematics by hand, and what their clients hold to learn."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.bench import overhead
from experiments.bench.fresh import BenchError
from experiments.bench.head_memory import METHODS, measure
from experiments.bench.setting import Setting

# torch itself compiles what forward mode needs the first time it is used, in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Setting:
    return Setting(
        folder=tmp_path_factory.mktemp("bench") / "setting",
        blocks=4,
        width=16,
        heads=2,
        vocabulary=32,
        rank=2,
        batch=2,
        tokens=8,
        steps=2,
        sweeps=2,
    ).prepare()


QUICK = ("sfl-v2", "frozen", "hybrid", "fedlora")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in overhead.LOOPS]
)
def test_a_method_is_its_loop_by_hand_to_the_last_bit(name: str, tiny: Setting, tmp_path: Path) -> None:
    sweeps = 9 if name == "frozen" else tiny.sweeps  # into the second epoch, of which nothing is sent
    config = overhead.settings(replace(tiny, sweeps=sweeps), name)
    product_s, by_hand_s = overhead.seconds(config, tmp_path)
    assert len(product_s) == len(by_hand_s) == sweeps


@pytest.mark.slow
def test_a_loop_of_other_mathematics_is_no_baseline(
    tiny: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overhead, "LOOPS", {**overhead.LOOPS, "sfl-v2": overhead.LOOPS["fedlora"]})
    config = overhead.settings(tiny, "sfl-v2")
    config = replace(config, train=replace(config.train, body_lr=0.1))  # which the other loop does not read
    with pytest.raises(BenchError, match="sfl-v2 and its plain loop have different losses"):
        overhead.seconds(config, tmp_path)


def test_a_client_without_a_way_back_holds_next_to_nothing(tiny: Setting) -> None:
    held: dict[str, tuple[float, float]] = {}
    for name in METHODS:
        found: list[tuple[float, float]] = []
        measure(found.append, tiny, name)
        held[name] = found[0]
    counted = {name: both[0] for name, both in held.items()}
    assert counted["hybrid"] < counted["checkpointed"] < counted["plain"]
    assert counted["hybrid"] < counted["plain"] / 3
