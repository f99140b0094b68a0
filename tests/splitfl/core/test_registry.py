from importlib.metadata import EntryPoint
from typing import Any

import pytest

from splitfl.core import registry
from splitfl.core.errors import ConfigError
from splitfl.core.registry import Registry

GROUP = "splitfl.colours"
VALUES = {"fine": 7, "odd": "seven"}


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> Registry[int]:
    """Two of its own, and what other packages register under the names of `VALUES` and three more."""
    points = [
        EntryPoint(name="fine", value="tests.splitfl.core.test_registry:VALUES", group=GROUP),
        EntryPoint(name="odd", value="tests.splitfl.core.test_registry:VALUES", group=GROUP),
        EntryPoint(name="red", value="tests.splitfl.core.test_registry:VALUES", group=GROUP),
        EntryPoint(name="gone", value="no_such_package:thing", group=GROUP),
    ]

    def load(point: EntryPoint) -> Any:
        return __import__("no_such_package") if point.name == "gone" else VALUES.get(point.name, 1)

    monkeypatch.setattr(registry, "entry_points", lambda group: points if group == GROUP else [])
    monkeypatch.setattr(EntryPoint, "load", load)
    return Registry(GROUP, int, {"red": 1, "blue": 2})


def test_plug_ins_are_listed_after_built_in_entries(colours: Registry[int]) -> None:
    assert dict(colours) == {"red": 1, "blue": 2, "fine": 7}
    assert (len(colours), list(colours)) == (3, ["red", "blue", "fine"])
    assert colours["red"] == 1


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("odd", r"the plug-in 'odd' of .* must be a int, got an object of type str"),
        ("gone", r"the plug-in 'gone' of .* cannot be loaded: ModuleNotFoundError"),
    ],
)
def test_a_plug_in_that_cannot_be_used_is_refused_by_name_and_the_others_work(
    colours: Registry[int], name: str, reason: str
) -> None:
    assert name in colours
    assert name not in list(colours)
    with pytest.raises(ConfigError, match=reason):
        colours[name]
    assert colours["fine"] == 7


def test_a_name_in_use_stays_with_its_first_owner(
    colours: Registry[int], caplog: pytest.LogCaptureFixture
) -> None:
    assert colours["red"] == 1
    assert (
        "'red' of tests.splitfl.core.test_registry:VALUES (splitfl.colours) takes a name" not in caplog.text
    )
    list(colours)
    assert "'red'" in caplog.text
    assert "has a name that is already in use" in caplog.text


def test_an_unregistered_name_is_missing(colours: Registry[int]) -> None:
    assert "green" not in colours
    with pytest.raises(KeyError):
        colours["green"]


def test_a_plug_in_may_use_built_in_entries_while_it_is_loaded(
    colours: Registry[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(EntryPoint, "load", lambda point: colours["red"] + ("blue" in colours))
    assert colours["fine"] == 2
