"""The adapter from which a run starts belongs to its origin, and every process has the same one."""

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from splitfl.adapters.export import export_adapter
from splitfl.adapters.inject import trainable
from splitfl.core.errors import ConfigError
from splitfl.server.origin import origin_of
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy


@pytest.mark.slow
def test_the_adapter_that_a_run_starts_from_is_part_of_its_origin(tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv", 40)
    config, out = toy.config(tmp_path), tmp_path / "start"
    whole = Experiment.of(config).whole()
    export_adapter(
        out,
        {name: value.detach() for name, value in trainable(whole).items()},
        whole=whole,
        model_name="a-model",
        adapter=config.adapter,
        cut=config.partition.cut,
    )
    site = Experiment.of(replace(config, adapter=replace(config.adapter, start=str(out))))
    first = site.whole()
    replace(site, weights=first.checksums).client_method(0)
    held = load_file(out / "adapter_model.safetensors")
    save_file({name: value + 1.0 for name, value in held.items()}, out / "adapter_model.safetensors")
    assert any(name.startswith("adapter.start ") for name in first.checksums)
    with pytest.raises(
        ConfigError, match=r"adapter in .*start has other values than the server's in .*lora_"
    ):
        replace(site, weights=first.checksums).client_method(0)
    with pytest.raises(ConfigError, match=r"adapter.start: .*start has classifier.*, which these settings"):
        site.whole()
    kept = {name: value + ("lora_B" in name) for name, value in held.items()}
    save_file(kept, out / "adapter_model.safetensors")
    before, after = origin_of(site, first.checksums), origin_of(site, site.whole().checksums)
    assert [name for name in before if before[name] != after[name]] == ["weights"]


@pytest.mark.parametrize(("shard", "is_same"), [("fsdp", True), ("stages", True), ("tensor", False)])
def test_ranks_belong_to_the_origin_of_a_run_whose_bits_they_change(
    tmp_path: Path, shard: str, is_same: bool
) -> None:
    toy.model(tmp_path / "model", "llama")
    toy.data(tmp_path / "data.tsv", 40)
    one = Experiment.of(toy.config(tmp_path))
    divided = Experiment.of(toy.config(tmp_path, server={"device": "cpu", "shard": shard, "ranks": 2}))
    assert (origin_of(one, {}) == origin_of(divided, {})) is is_same
