"""OFT's rotations: refusals of sizes that do not fit, and derivatives in forward mode."""

from pathlib import Path

import pytest

from splitfl.adapters.export import export_adapter
from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment import Experiment
from tests.splitfl import tiny, toy
from tests.splitfl.adapters.test_kinds import CUT, loaded, train
from tests.splitfl.driver import play
from tests.splitfl.methods.test_conformance import settings

KIND = "sequence-classification"
place = toy.place(is_base=True, rows=40)


def oft(block_size: int) -> dict[str, object]:
    return {"kind": "oft", "block_size": block_size}


def test_a_block_size_divides_the_inputs_of_every_target(tmp_path: Path) -> None:
    side = side_config("oft", block_size=12)
    folder = tiny.save(tmp_path, "bert", KIND)
    with pytest.raises(ConfigError, match=r"adapter block_size must divide the 32 inputs of bert.*, got 12"):
        loaded(folder, KIND, AdapterConfig(head=side, body=side))


def test_a_module_whose_input_peft_takes_for_a_picture_is_refused(tmp_path: Path) -> None:
    folder, side = tiny.save(tmp_path, "deepseek_v3", "causal-lm"), side_config("oft", block_size=8)
    with pytest.raises(ConfigError, match=r"must leave out .*kv_b_proj, whose input has four dimensions"):
        loaded(folder, "causal-lm", AdapterConfig(head=side, body=side))


def test_both_sides_have_one_block_size(place: Path, tmp_path: Path) -> None:
    sides = {"head": oft(8), "body": oft(16)}
    with pytest.raises(ConfigError, match=r"adapter.head.block_size must be that of adapter.body, 16"):
        Experiment.of(toy.config(place, adapter=sides))
    adapter = AdapterConfig(head=side_config("oft", block_size=8), body=side_config("oft", block_size=16))
    whole = loaded(tiny.save(tmp_path, "bert", KIND), KIND, adapter)
    with pytest.raises(ConfigError, match=r"block_size must be the same on both sides to be exported"):
        export_adapter(
            tmp_path / "out", train([whole]), whole=whole, model_name="m", adapter=adapter, cut=CUT
        )


def test_averaging_rotations_needs_the_plain_mean(place: Path) -> None:
    sides = {side: oft(8) for side in ("head", "body")}
    with pytest.raises(ConfigError, match=r"adapter.head.kind must be .* with federation.aggregator"):
        Experiment.of(toy.config(place, adapter=sides))
    Experiment.of(toy.config(place, adapter=sides, federation={"aggregator": "mean"}))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", ["spry", "decomfl", "hybrid", "ushape"])
def test_methods_train_rotations(name: str, place: Path, tmp_path: Path) -> None:
    sides = {side: oft(8) for side in ("head", "body")}
    played = play(Experiment.of(settings(place, name, clients=1, adapter=sides)), tmp_path)
    assert all(loss == loss for loss in played.losses)
    assert any(key.endswith(".oft_R.weight") and bool(value.any()) for key, value in played.trained.items())
