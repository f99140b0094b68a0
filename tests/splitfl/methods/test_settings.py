"""A setting that a method does not read is refused, with the methods that do read it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from splitfl.config import EXACT, CodecConfig, RunConfig, SideConfig
from splitfl.config.experiment_file import from_dict
from splitfl.core.errors import ConfigError
from splitfl.methods.compatibility import check
from splitfl.methods.registry import METHODS, in_flight
from splitfl.methods.settings import optional, without_unread
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy

OTHERS: dict[str, Any] = {
    "method.derivative": "central",
    "method.hessian_smooth": 0.5,
    "adapter.head": SideConfig(rank=3),
    "federation.aggregator": "ffa",
    "federation.client_ranks": (4, 8, 8),
    "federation.client_cuts": (2, 3, 4),
    "federation.robust": "median",
    "federation.trim": 0.4,
    "federation.clip_norm": 2.0,
    "federation.server_optimiser": "yogi",
    "federation.server_lr": 0.5,
    "train.head_schedule": "cosine",
    "codec.activation": "int8",
    "codec.output": "int4",
    "codec.gradient": "bf16",
}
PARTNERS = {
    "trim": {"robust": "trimmed-mean"},
    "clip_norm": {"robust": "clip"},
    "server_lr": {"server_optimiser": "adam"},
}


def named(name: str) -> RunConfig:
    """Default settings of a method, with an attention that every method can do with."""
    return from_dict({"method": {"name": name}, "model": {"attention": "eager"}})


def changed(name: str, setting: str) -> RunConfig:
    """Default settings of a method, but for one."""
    table, _, key = setting.partition(".")
    config = named(name)
    old = getattr(getattr(config, table), key)
    new: Any = OTHERS.get(setting) or (not old if isinstance(old, bool) else old * 2 + 1)
    return dataclasses.replace(
        config,
        **{table: dataclasses.replace(getattr(config, table), **{key: new})},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_does_not_read_it_refuses(name: str) -> None:
    for setting in optional(RunConfig()).keys() - METHODS[name].reads:
        with pytest.raises(ConfigError, match=f"'{name}' does not read {setting}: leave it at"):
            check(changed(name, setting), "sequence-classification", 12, "bert")


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_reads_it_takes(name: str) -> None:
    one = changed(name, "partition.tail_blocks") if name == "ushape" else named(name)
    check(one, "sequence-classification", 12, "bert")
    for setting in METHODS[name].reads - {"partition.tail_blocks"}:
        other = changed(name, setting)
        partner = PARTNERS.get(setting.partition(".")[2], {})
        other = dataclasses.replace(other, federation=dataclasses.replace(other.federation, **partner))
        tail = dataclasses.replace(other.partition, tail_blocks=int(name == "ushape"))
        check(dataclasses.replace(other, partition=tail), "sequence-classification", 12, "bert")


def test_every_optional_setting_is_read_by_some_method_and_no_method_reads_another() -> None:
    read = set().union(*(spec.reads for spec in METHODS.values()))
    assert read - {"method.in_flight"} == optional(RunConfig()).keys()


def test_a_key_of_another_method_is_refused_with_the_keys_that_there_are() -> None:
    with pytest.raises(
        ConfigError, match=r"the keys of .method. that 'fedlora' has are name, checkpoint_head, micro_batch$"
    ):
        check(changed("fedlora", "method.mu"), "sequence-classification", 12, "bert")


def test_a_method_that_takes_one_step_at_a_time_keeps_within_any_bound() -> None:
    assert in_flight(changed("fedlora", "method.in_flight")) == 1
    assert in_flight(changed("sfl-v2", "method.in_flight")) == 3


def test_the_refusal_says_who_reads_it_and_what_is_right(tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv", rows=20)
    with pytest.raises(
        ConfigError,
        match=r"the method 'sfl-v2' does not read method.upload_interval: leave it at 1, got 5; "
        "it is read by cse-fsl, fsl-sage",
    ):
        Experiment.of(toy.config(tmp_path, method={"upload_interval": 5}))
    with pytest.raises(ConfigError, match=r"'fedlora' does not read partition.tail_blocks.* read by ushape"):
        Experiment.of(toy.config(tmp_path, method={"name": "fedlora"}, partition={"tail_blocks": 1}))


@pytest.mark.parametrize("name", ["hosl", "mu-splitfed"])
def test_differences_of_losses_are_not_rounded_and_it_is_said_why(name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"'{name}' does not read codec.activation: leave it at 'none', got 'int8'; it is read by "
        rf"sfl-v2, .*; '{name}' takes differences of losses of activations mu apart, which rounding swallows",
    ):
        check(changed(name, "codec.activation"), "sequence-classification", 12, "bert")


@pytest.mark.parametrize("kind", ["activation", "gradient"])
def test_what_is_sent_as_it_is_has_no_codec(kind: str) -> None:
    config = from_dict({"codec": {kind: "int8"}, "analog": {"kinds": [kind]}})
    with pytest.raises(ConfigError, match=f"codec.{kind} must be 'none' where analog.kinds .* got 'int8'"):
        check(config, "sequence-classification", 12, "bert")
    other = {"activation": "gradient", "gradient": "activation"}[kind]
    check(
        from_dict({"codec": {other: "int8"}, "analog": {"kinds": [kind]}}),
        "sequence-classification",
        12,
        "bert",
    )


def test_a_codec_that_there_is_not_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown codec.output 'int5'; did you mean 'int\d'\? have bf16, int4"
    ):
        from_dict({"codec": {"output": "int5"}})


def test_codecs_that_another_method_does_not_read_are_left_out_beside_it() -> None:
    codec = {"activation": "int8", "gradient": "int4"}
    fitted = {
        name: without_unread(from_dict({"method": {"name": name}, "codec": codec})).codec for name in METHODS
    }
    assert fitted["hybrid"] == CodecConfig(activation="int8", gradient="int4")
    assert fitted["cse-fsl"] == CodecConfig(activation="int8")
    assert fitted["hosl"] == fitted["fedlora"] == EXACT


def test_settings_for_one_method_are_made_those_of_another() -> None:
    """What the other does not read goes back to its default, and nothing else changes."""
    tables = {"train": {"head_lr": 0.5, "body_lr": 0.25}, "federation": {"clients": 7, "aggregator": "ffa"}}
    config = from_dict({**tables, "method": {"name": "frozen"}, "adapter": {"head": {"rank": 2}}})
    with pytest.raises(ConfigError, match=r"adapter.head.*train.head_lr.*federation.aggregator"):
        check(config, "sequence-classification", 12, "bert")
    fitted = without_unread(config)
    check(fitted, "sequence-classification", 12, "bert")
    assert (fitted.train.body_lr, fitted.federation.clients) == (0.25, 7)
    assert (fitted.train.head_lr, fitted.federation.aggregator) == (1e-3, "rolora")
    assert without_unread(fitted) == fitted
