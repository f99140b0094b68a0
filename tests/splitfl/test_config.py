"""Settings are checked as they are made, survive the way through TOML and JSON, and are refused by name."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from splitfl import config
from splitfl.adapters.kind import LowRank, Targets
from splitfl.config import RunConfig, key_types, key_values, nearest
from splitfl.core.errors import ConfigError
from splitfl.methods.parts.split_pass import Backpropagation
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment_file import as_dict, from_dict, load, parse
from splitfl.setup.plugins import PLUGINS
from splitfl.setup.typed_tables import RENAMED

PRESETS = sorted(Path(__file__).parents[2].glob("experiments/presets/*.toml"))


def leaves(table: Any = None, path: str = "") -> list[tuple[str, Any]]:
    """Every setting of the default plug-ins by its dotted name, with its type."""
    table, found = parse("") if table is None else table, list[tuple[str, Any]]()
    hints = {
        name: hint
        for own in (table, *getattr(table, "settings", ()))
        for name, hint in key_types(type(own)).items()
    }
    for name, value in key_values(table).items():
        dotted = f"{path}{name}"
        found += leaves(value, f"{dotted}.") if dataclasses.is_dataclass(value) else [(dotted, hints[name])]
    return found


def test_the_defaults_stand_for_an_empty_file() -> None:
    assert parse("") == from_dict(as_dict(parse("")))
    assert parse("").method.of(Backpropagation) == Backpropagation()


@pytest.mark.parametrize("path", PRESETS, ids=lambda path: path.stem)
def test_settings_survive_the_way_through_json(path: Path) -> None:
    made = load(path)
    assert from_dict(json.loads(json.dumps(as_dict(made)))) == made


NOT_ALONE = ("partition.cut", "auto.every", "model.quantization_group_size")
"""What says nothing without another setting beside it, and a number that must be even."""

COUNTS = [name for name, hint in leaves() if hint is int and name not in NOT_ALONE]


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(COUNTS), st.integers(64, 1024), max_size=5))
def test_numbers_put_over_a_preset_are_the_ones_that_hold(numbers: dict[str, int]) -> None:
    made = as_dict(parse("", [f"{name}={value}" for name, value in numbers.items()]))
    for name, value in numbers.items():
        held: Any = made
        for part in name.split("."):
            held = held[part]
        assert held == value


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_no_setting_may_be_anything_but_a_finite_number(value: str) -> None:
    for name in (name for name, hint in leaves() if hint is float):
        assert re.search(name.rpartition(".")[2].split("_")[-1], refusal(name, value)), name


def test_a_value_of_another_type_is_refused_by_name() -> None:
    for name, hint in leaves():
        wrong = {str: "[3]", tuple[str, ...]: "3"}.get(hint, "'three'")
        assert refusal(name, wrong).startswith(f"{name} must be"), name


def test_true_is_no_number() -> None:
    for name in (name for name, hint in leaves() if hint is int):
        assert f"{name} must be of type int, got True" in refusal(name, "true"), name


def refusal(name: str, value: str) -> str:
    """The error of this setting alone; empty if it is none."""
    try:
        parse("", [f"{name}={value}"])
    except ConfigError as error:
        return str(error)
    return ""


def of_methods(kind: type) -> list[tuple[str, str]]:
    """Each method with each of its own keys of this type."""
    return [
        (name, key)
        for name, spec in METHODS.items()
        for key, hint in key_types(spec.settings).items()
        if hint is kind
    ]


@pytest.mark.parametrize(("name", "key"), of_methods(float))
def test_no_setting_of_a_method_may_be_anything_but_a_finite_number(name: str, key: str) -> None:
    for value in ("nan", "inf"):
        with pytest.raises(ConfigError, match=rf"^\[method\] method.{key} must (be|lie in) .*got {value}"):
            parse("", [f"method.name={name}", f"method.{key}={value}"])


@pytest.mark.parametrize(("name", "key"), of_methods(int))
def test_no_count_of_a_method_may_be_negative_or_true(name: str, key: str) -> None:
    with pytest.raises(ConfigError, match=rf"^\[method\] method.{key} must be at least"):
        parse("", [f"method.name={name}", f"method.{key}=-1"])
    with pytest.raises(ConfigError, match=rf"^method.{key} must be of type int, got True"):
        parse("", [f"method.name={name}", f"method.{key}=true"])


def test_a_whole_number_will_do_for_a_float() -> None:
    rate_bps = parse("[link.up]\nrate_bps = 5").link.up.rate_bps
    assert (type(rate_bps), rate_bps) == (float, 5.0)


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("model.name=gpt2", "gpt2"),
        ("model.name='gpt2'", "gpt2"),
        ("model.name = a b ", "a b"),
        ("model.name=a=b", "a=b"),
    ],
)
def test_a_word_needs_no_quotes(override: str, value: str) -> None:
    assert parse("", [override]).model.name == value


def test_the_last_of_two_overrides_holds() -> None:
    assert parse("[train]\nseed = 1", ["train.seed=2", "train.seed=3"]).train.seed == 3


def test_one_target_may_stand_for_a_list_of_one() -> None:
    assert parse("", ["adapter.head.targets=query"]).adapter.head.of(Targets).targets == ("query",)


def test_overrides_do_not_change_their_base() -> None:
    table = {"train": {"seed": 1}}
    assert from_dict(table, ["train.seed=2"]).train.seed == 2
    assert table == {"train": {"seed": 1}}


def test_settings_cannot_be_changed_afterwards() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        RunConfig().train.seed = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("got", "said"),
    [("rolor", " did you mean 'rolora'?"), ("ff", " did you mean 'ffa'?"), ("zzz", ""), ("", "")],
)
def test_the_nearest_word_is_suggested(got: str, said: str) -> None:
    assert nearest(got, ["rolora", "ffa", "mean"]) == said


@pytest.mark.parametrize("device", ["auto", "cpu", "cuda", "cuda:0", "cuda:12"])
def test_a_device_is_named_as_torch_does(device: str) -> None:
    assert config.DeviceConfig(device=device).device == device


def test_a_key_of_a_table_within_a_table_is_named_in_full() -> None:
    with pytest.raises(ConfigError, match=r"unknown key 'link.up.rate'; did you mean 'rate_bps'\? have"):
        parse("[link.up]\nrate = 3")


def test_a_list_of_numbers_is_one() -> None:
    assert parse("[adapter.head]\nranks = [2, 4]").adapter.head.of(LowRank).ranks == (2, 4)
    assert parse("", ["federation.client_ranks=[8, 4, 2]"]).federation.client_ranks == (8, 4, 2)
    with pytest.raises(
        ConfigError, match=r"adapter.head.ranks must be a list of whole numbers, got \[2, 'x'\]"
    ):
        parse("[adapter.head]\nranks = [2, 'x']")
    with pytest.raises(ConfigError, match=r"client_ranks must be a list of whole numbers, got 2.5"):
        parse("", ["federation.client_ranks=2.5"])


def test_an_override_of_a_string_stays_a_string_even_if_it_looks_like_a_number() -> None:
    config = parse("", ["task.label_column=1", "task.text_column='2'", "task.max_length=32"])
    assert (config.task.label_column, config.task.text_column, config.task.max_length) == ("1", "2", 32)


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_a_renamed_key_is_unknown_and_its_error_says_the_new_name(old: str, new: str) -> None:
    value = "{}" if "." not in old else "1"
    with pytest.raises(ConfigError, match=rf"unknown key '{old}'; it is now '{new}'"):
        parse("", [f"{old}={value}"])
    of_plugins = [
        f"{path}.{key}"
        for path, plugins in PLUGINS.items()
        for spec in plugins.registry().values()
        for key in key_types(spec.settings)
    ]
    assert any(f"{name}.".startswith(f"{new}.") for name in (*of_plugins, *(leaf for leaf, _ in leaves())))
