"""Which methods take part in a comparison, and with which settings."""

from pathlib import Path

import pytest

from experiments import presets
from splitfl.comparison.entrants import ALWAYS, Entrant, Excluded, enter, labels_of, settings_by_label
from splitfl.core.errors import ConfigError
from splitfl.methods.parts.split_pass import Backpropagation
from splitfl.methods.registry import METHODS
from tests.quick import quick

pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")


def test_an_entrant_that_is_always_included_appears_once() -> None:
    assert labels_of(["hybrid", " frozen", "hybrid"]) == ["hybrid", "frozen", "sfl-v2@checkpointed"]
    with pytest.raises(ConfigError, match="methods must name at least one method, got none"):
        labels_of([" ", " "])
    assert {label.partition("@")[0] for label in ALWAYS} <= METHODS.keys()


def test_a_setting_for_an_unknown_entrant_is_refused() -> None:
    assert settings_by_label(["a:train.seed=3"], ["a", "b"]) == {"a": ["train.seed=3"], "b": []}
    for text in ("c:train.seed=3", "train.seed=3"):
        with pytest.raises(ConfigError, match="LABEL one of a, b; got"):
            settings_by_label([text], ["a", "b"])


def entered(preset: Path, label: str, *own: str, overrides: tuple[str, ...] = ()) -> Entrant | Excluded:
    return enter(presets.tables(str(preset))[1], overrides, label, own, [], None)


@pytest.mark.parametrize("name", quick(METHODS, "hosl"))
def test_every_method_takes_part_in_the_same_experiment(name: str, preset: Path) -> None:
    one = entered(preset, name, overrides=("train.body_lr=0.02",))
    assert isinstance(one, Entrant), one.reason
    assert one.adjusted == METHODS[name].needs


@pytest.mark.slow
def test_a_checkpointed_client_needs_less_memory_and_more_work(preset: Path) -> None:
    plain, less = entered(preset, "sfl-v2"), entered(preset, "sfl-v2@checkpointed")
    assert isinstance(plain, Entrant)
    assert isinstance(less, Entrant)
    assert less.config.method.of(Backpropagation).checkpoint_head
    assert less.plan.dry_run.client.total_bytes < plain.plan.dry_run.client.total_bytes
    assert less.plan.dry_run.ledger.total_flops("client") > plain.plan.dry_run.ledger.total_flops("client")
    assert less.plan.dry_run.ledger.total("up") == plain.plan.dry_run.ledger.total("up")


def test_a_setting_of_its_own_that_a_method_does_not_read_leaves_it_out(preset: Path) -> None:
    one = entered(preset, "frozen", "train.head_lr=0.5")
    assert isinstance(one, Excluded)
    assert "'frozen' does not read train.head_lr" in one.reason
