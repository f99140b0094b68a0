"""A part of the hundred thousand damaged files; `python -m tests.fuzz.files` feeds all of them."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from channel.core.errors import ChannelError
from channel.scenario import load as scenario
from splitfl.core.errors import ConfigError
from splitfl.setup import experiment_file
from testbed.inventory import load as inventory
from testbed.lab import plan
from tests.fuzz.feeding import Broken, Food, Found, feed
from tests.fuzz.files import foods, fuzz


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.long)])
def test_no_damaged_file_does_more_than_to_be_refused(seed: int) -> None:
    found = fuzz(3_000, seed)
    assert found.inputs == found.taken + found.refused == 3_000
    assert found.refused > 1_500


def test_valid_files_are_accepted(tmp_path: Path) -> None:
    refused = [food for food in foods(tmp_path) if not is_taken(food)]
    assert len(refused) == 1  # what another program kept
    assert b"format" in refused[0].good


def is_taken(food: Food) -> bool:
    found = Found(seed=0)
    feed(food.good, food, found)
    return found.taken == 1


def test_an_accepted_foreign_checkpoint_would_be_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    foreign = foods(tmp_path)[-1]
    monkeypatch.setattr("splitfl.core.checkpoint._digest", lambda tensors, notes: None)
    with pytest.raises(Broken, match="a checkpoint that nobody kept was believed"):
        feed(foreign.good, foreign, Found(seed=0))


@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 3000,
        "a = " + "9" * 5000,
        "a = \ud800".encode(errors="surrogatepass").decode(errors="replace"),
        "duration_s = 9" + "9" * 400,
    ],
    ids=["deep", "long", "strange", "large"],
)
def test_settings_that_no_machine_could_hold_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "one.toml"
    path.write_text(text)
    for read in (experiment_file.load, inventory.load, lambda path: plan.find(str(path))):
        with pytest.raises(ConfigError):
            read(path)
    with pytest.raises(ChannelError):
        scenario.load(str(path))


TABLES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ("nodes", "networks", "allow", "role", "from", "to", "ports", "routes", "can0", "gpu")
            )
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@pytest.mark.slow
@given(st.dictionaries(st.sampled_from(("about", "networks", "nodes", "allow", "server", "broker")), TABLES))
def test_a_table_of_anything_is_a_plan_or_refused(table: dict[str, object]) -> None:
    for read in (lambda table: plan.read("lab", table), inventory.read, experiment_file.from_dict):
        try:
            read(table)
        except ConfigError:
            continue
