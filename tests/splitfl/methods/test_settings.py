"""A setting that a method does not read is refused, with the methods that do read it."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from splitfl.adapters.registry import side_config
from splitfl.config import EXACT, CodecConfig, RunConfig, key_types
from splitfl.core.errors import ConfigError
from splitfl.methods.compatibility import check
from splitfl.methods.parts.zeroth_order_client import Estimate, SlicedEstimate
from splitfl.methods.registry import METHODS, in_flight, server_method
from splitfl.methods.settings import optional, with_method, without_unread
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict
from tests.quick import quick
from tests.splitfl import toy

OTHERS: dict[str, Any] = {
    "adapter.head": side_config(rank=3),
    "federation.aggregator": "ffa",
    "federation.client_ranks": (4, 8, 8),
    "federation.client_cuts": (2, 3, 4),
    "federation.robust": "median",
    "federation.trim": 0.4,
    "federation.clip_norm": 2.0,
    "federation.server_optimiser": "yogi",
    "federation.server_lr": 0.5,
    "train.head_schedule": "cosine",
    "train.body_schedule": "linear",
    "train.clip_grad_norm": 0.5,
    "codec.activation": "int8",
    "codec.output": "int4",
    "codec.gradient": "bf16",
    "codec.adapter_up": "int8",
    "codec.adapter_down": "uniform",
    "codec.error_decay": 0.95,
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
def test_a_method_refuses_settings_that_it_does_not_read(name: str) -> None:
    for setting in optional(RunConfig()).keys() - METHODS[name].reads:
        with pytest.raises(ConfigError, match=f"'{name}' does not read {setting}: leave it at"):
            check(changed(name, setting), "sequence-classification", 12, "bert")


@pytest.mark.parametrize("name", quick(METHODS, "sfl-v2", "cse-fsl", "hybrid", "fedkseed"))
def test_a_method_accepts_settings_that_it_reads(name: str) -> None:
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


def test_a_key_of_another_method_is_refused_with_the_methods_that_have_it() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^unknown key 'method.mu'; the method 'fedlora' has the keys name, in_flight, server_batch, "
        r"checkpoint_head, micro_batch; it is a key of "
        r"hybrid, hosl, heron, mu-splitfed, decomfl, hiso, fedkseed$",
    ):
        from_dict({"method": {"name": "fedlora", "mu": 0.1}})
    with pytest.raises(ConfigError, match=r"'method.slice'; did you mean 'slices'\? the method 'hosl' has"):
        from_dict({"method": {"name": "hosl", "slice": True}})


def test_methods_keep_their_keys() -> None:
    replayed = ["perturbations", "mu", "derivative", "slices"]
    assert {name: [*key_types(spec.settings)] for name, spec in METHODS.items()} == {
        "sfl-v2": ["checkpoint_head", "micro_batch"],
        "sfl-v1": ["checkpoint_head", "micro_batch"],
        "frozen": [],
        "ushape": ["checkpoint_head", "micro_batch"],
        "cse-fsl": ["auxiliary_blocks", "upload_interval", "checkpoint_head", "micro_batch"],
        "fsl-sage": [
            *("auxiliary_blocks", "upload_interval", "align_interval", "align_passes", "align_batches"),
            *("checkpoint_head", "micro_batch"),
        ],
        "hybrid": replayed,
        "hosl": ["perturbations", "mu", "slices"],
        "heron": ["auxiliary_blocks", "upload_interval", "perturbations", "mu", "derivative"],
        "mu-splitfed": ["mu", "server_steps"],
        "fedlora": ["checkpoint_head", "micro_batch"],
        "decomfl": replayed,
        "hiso": ["perturbations", "mu", "derivative", "hessian_smooth"],
        "fedkseed": ["perturbations", "mu", "derivative", "pool"],
        "spry": ["perturbations"],
        "diloco": [
            *("outer_optimiser", "outer_lr", "outer_momentum", "outer_every", "outer_share", "pace"),
            *("betas", "min_lr_rate", "checkpoint_head", "micro_batch"),
        ],
        "dp": ["betas", "min_lr_rate", "checkpoint_head", "micro_batch"],
    }


def test_methods_of_the_controller_add_their_keys() -> None:
    table = {"method": {"name": "sfl-v2", "perturbations": 8}, "auto": {"methods": ["hybrid"]}}
    with pytest.raises(ConfigError, match=r"unknown key 'method.perturbations'"):
        from_dict(table)
    config = from_dict(table, ["auto.budget=bytes", "auto.limit=1e6"])
    assert as_dict(config)["method"]["perturbations"] == 8
    assert from_dict(as_dict(config)) == config
    assert with_method(config, "hybrid").method.settings == (
        SlicedEstimate(estimate=Estimate(perturbations=8)),
    )
    assert "perturbations" not in as_dict(with_method(config, "sfl-v2"))["method"]


def test_an_unknown_method_of_the_controller_is_refused_by_its_key() -> None:
    auto = {"budget": "bytes", "limit": 1e6, "methods": ["hybird"]}
    with pytest.raises(ConfigError, match=r"unknown auto.methods 'hybird'; did you mean 'hybrid'\?"):
        from_dict({"auto": auto})


def test_a_spec_with_another_settings_type_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"must have settings or a group of type Estimate, got Backpropagation"
    ):
        from_dict({}).method.of(Estimate)


class Loose:
    """No dataclass."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Taken:
    in_flight: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Demanding:
    depth: int


@dataclasses.dataclass(kw_only=True)
class Thawed:
    depth: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optional:
    depth: int | None = None


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        (Loose, "must be a frozen dataclass, got <class"),
        (Taken, "must not have the common keys in_flight"),
        (Thawed, "must be a frozen dataclass, got <class"),
        (Optional, r"must have keys of type bool, int, .*; 'depth' is of int \| None"),
        (Demanding, "must have a default for each key, got none for 'depth'"),
    ],
)
def test_a_method_with_unsuitable_settings_is_refused(settings: type, why: str) -> None:
    with pytest.raises(ConfigError, match=f"MethodSpec.settings {why}"):
        dataclasses.replace(METHODS["sfl-v2"], settings=settings)


def test_a_sequential_method_has_one_step_in_flight() -> None:
    assert in_flight(changed("fedlora", "method.in_flight")) == 1
    assert in_flight(changed("sfl-v2", "method.in_flight")) == 3


def test_the_refusal_names_the_readers_and_the_default(tmp_path: Path) -> None:
    toy.model(tmp_path / "model")
    toy.data(tmp_path / "data.tsv", rows=20)
    with pytest.raises(
        ConfigError,
        match=r"the method 'ushape' does not read federation.client_cuts: leave it at \(\), got \(1, 2\); "
        "it is read by sfl-v2",
    ):
        Experiment.of(toy.config(tmp_path, method={"name": "ushape"}, federation={"client_cuts": [1, 2]}))
    with pytest.raises(ConfigError, match=r"'fedlora' does not read partition.tail_blocks.* read by ushape"):
        Experiment.of(toy.config(tmp_path, method={"name": "fedlora"}, partition={"tail_blocks": 1}))


@pytest.mark.parametrize("name", ["hosl", "mu-splitfed"])
def test_finite_differences_refuse_codecs_with_the_reason(name: str) -> None:
    with pytest.raises(
        ConfigError,
        match=rf"'{name}' does not read codec.activation: leave it at 'none', got 'int8'; it is read by "
        rf"sfl-v2, .*; '{name}' takes differences of losses of activations mu apart, which rounding swallows",
    ):
        check(changed(name, "codec.activation"), "sequence-classification", 12, "bert")


@pytest.mark.parametrize("kind", ["activation", "gradient"])
def test_analog_messages_have_no_codec(kind: str) -> None:
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


def test_an_unknown_codec_is_refused_by_name() -> None:
    with pytest.raises(
        ConfigError, match=r"unknown codec.output 'int5'; did you mean 'int\d'\? have ans, bf16"
    ):
        from_dict({"codec": {"output": "int5"}})


def test_codecs_that_a_compared_method_does_not_read_are_reset() -> None:
    codec = {"activation": "int8", "gradient": "int4"}
    fitted = {
        name: without_unread(from_dict({"method": {"name": name}, "codec": codec})).codec for name in METHODS
    }
    assert fitted["hybrid"] == CodecConfig(activation="int8", gradient="int4")
    assert fitted["cse-fsl"] == CodecConfig(activation="int8")
    assert fitted["hosl"] == fitted["fedlora"] == EXACT


def test_settings_of_one_method_convert_to_another() -> None:
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


@pytest.mark.parametrize("name", ["sfl-v1", "ushape", "fedlora"])
def test_a_method_refuses_batches_of_clients_with_its_reason(name: str) -> None:
    reason = METHODS[name].server_batch
    with pytest.raises(
        ConfigError, match=f"method.server_batch: leave it at 1, got 3; .*; '{name}' {reason}$"
    ):
        check(changed(name, "method.server_batch"), "sequence-classification", 12, "bert")


@pytest.mark.parametrize(
    ("tables", "complaint"),
    [
        (
            {"method": {"server_batch": 2, "in_flight": 2}},
            "method.in_flight must be 1 with method.server_batch 2, whose batches .*; got 2",
        ),
        (
            {
                "method": {"server_batch": 2},
                "auto": {"budget": "bytes", "limit": 1e6, "every": 1, "methods": ["frozen"]},
            },
            "method.server_batch must be 1 with auto.every, which may give clients different cuts; got 2",
        ),
        (
            {"method": {"server_batch": 4}, "federation": {"clients": 3}},
            "method.server_batch must be at most the 3 clients of a round, got 4",
        ),
        (
            {"method": {"server_batch": 3}, "fault_tolerance": {"clients_per_round": 2}},
            "method.server_batch must be at most the 2 clients of a round, got 3",
        ),
    ],
)
def test_settings_that_exclude_batches_of_clients_are_refused(tables: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        check(from_dict(tables), "sequence-classification", 12, "bert")


def test_a_method_whose_server_has_no_batches_is_refused() -> None:
    config = from_dict({"method": {"server_batch": 2}})
    one_by_one = dataclasses.replace(METHODS["sfl-v2"], server=lambda *_: object())
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS._own, "sfl-v2", one_by_one)
        with pytest.raises(
            ConfigError, match="'sfl-v2' declares server_batch, and its server has no compute"
        ):
            server_method(config, None)  # type: ignore[arg-type]
