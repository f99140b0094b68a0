"""A setting that a method does not read is refused, with the methods that do read it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from splitfl.config import RunConfig
from splitfl.errors import ConfigError
from splitfl.experiment_file import from_dict
from splitfl.methods.registry import METHODS, check, in_flight
from splitfl.methods.row import optional
from splitfl.node.build import Site
from tests.splitfl import toy


def named(name: str) -> RunConfig:
    """Default settings of a method, with an attention that every method can do with."""
    return from_dict({"method": {"name": name}, "model": {"attention": "eager"}})


def changed(name: str, setting: str) -> RunConfig:
    """Default settings of a method, but for one."""
    table, _, key = setting.partition(".")
    config = named(name)
    old = getattr(getattr(config, table), key)
    new: Any = {"difference": "central"}[old] if isinstance(old, str) else old * 2 + 1
    return dataclasses.replace(
        config,
        **{table: dataclasses.replace(getattr(config, table), **{key: new})},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_does_not_read_it_refuses(name: str) -> None:
    for setting in optional(RunConfig()).keys() - METHODS[name].reads:
        with pytest.raises(ConfigError, match=f"'{name}' does not read {setting}: leave it at"):
            check(changed(name, setting), "sequence-classification", 12)


@pytest.mark.parametrize("name", METHODS)
def test_what_a_method_reads_it_takes(name: str) -> None:
    one = changed(name, "partition.tail_blocks") if name == "ushape" else named(name)
    check(one, "sequence-classification", 12)
    for setting in METHODS[name].reads - {"partition.tail_blocks"}:
        check(changed(name, setting), "sequence-classification", 12)


def test_every_optional_setting_is_read_by_somebody() -> None:
    read = set().union(*(row.reads for row in METHODS.values()))
    assert read - {"method.in_flight"} == optional(RunConfig()).keys()


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
        Site.of(toy.config(tmp_path, method={"upload_interval": 5}))
    with pytest.raises(ConfigError, match=r"'fedlora' does not read partition.tail_blocks.* read by ushape"):
        Site.of(toy.config(tmp_path, method={"name": "fedlora"}, partition={"tail_blocks": 1}))
