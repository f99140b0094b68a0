"""A method says all of itself, and gives a reason for what it cannot do."""

import dataclasses
from typing import Any

import pytest

from splitfl.core.errors import ConfigError
from splitfl.methods.parts.spec import ANY_LOSS, MethodSpec, Tolerance
from splitfl.methods.registry import METHODS

PLAIN = METHODS["sfl-v2"]


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"sends": {"activation": ANY_LOSS}}, "signature, activation, gradient; got activation$"),
        ({"sends": {}}, "got nothing"),
        ({"asynchronous": False}, "MethodSpec.asynchronous must be True or the reason why not, got False"),
        ({"single_pass": ""}, "MethodSpec.single_pass must be True or the reason why not, got ''"),
        ({"summable": None}, "MethodSpec.summable must be True or the reason why not, got None"),
        ({"server_batch": False}, "MethodSpec.server_batch must be True or the reason why not, got False"),
        ({"shardable": False}, "MethodSpec.shardable must be True or the reason why not, got False"),
    ],
)
def test_an_incomplete_spec_is_refused(changed: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        dataclasses.replace(PLAIN, **changed)


def test_only_fields_that_few_methods_set_have_defaults() -> None:
    optional = {one.name for one in dataclasses.fields(MethodSpec) if one.default is not dataclasses.MISSING}
    few = {"activations", "dropout", "forward_mode", "local_steps", "local_update", "needs", "shardable"}
    assert optional == {*few, "versioned", "waits_for_all"}


def test_a_missing_policy_needs_a_reason() -> None:
    with pytest.raises(ConfigError, match="reason that policies lack mask, rescale, stale, zero"):
        Tolerance(policies=frozenset({"skip"}))
    with pytest.raises(ConfigError, match="must be of mask, rescale, skip, stale, zero, got masks"):
        Tolerance(policies=frozenset({"masks"}))
    with pytest.raises(ConfigError, match=r"Tolerance.codec must be True or the reason why not, got False"):
        Tolerance(codec=False)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", METHODS)
def test_needs_of_a_method_are_settings_that_it_reads(name: str) -> None:
    spec = METHODS[name]
    assert spec.about
    assert spec.holds in (("head",), ("head", "body"))
    assert all(entry.startswith("@") for entry in spec.bibtex)
    assert all(need.count("=") == 1 for need in spec.needs)
