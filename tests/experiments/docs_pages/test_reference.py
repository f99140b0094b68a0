"""The generated reference names every setting, plug-in, command, preset and scenario."""

import dataclasses
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import splitfl
from channel.scenario import load as scenario
from channel.scenario.load import Scenario
from experiments import presets
from experiments.docs_pages import commands, pages, settings, write
from experiments.docs_pages.allowed_values import allowed
from experiments.docs_pages.plugins import REGISTRIES, shown
from experiments.docs_pages.settings_table import keys, keys_table, meaning, nested, toml, type_name
from splitfl.config import FederationConfig, LinkConfig, RunConfig, key_types
from splitfl.setup.experiment_file import as_dict
from splitfl.wire.codecs import CODECS
from tests.splitfl.installed import installed, package
from tests.splitfl.wire.test_foreign_codec import PEAKS


@cache
def reference() -> dict[str, str]:
    """All pages, generated once."""
    return pages()


def section(page: str, label: str) -> str:
    """What is under a label, up to the next one."""
    return reference()[page].partition(f"({label})=")[2].partition("\n(")[0]


def leaves(table: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, Any]]:
    """Each key of these nested tables, after its table, with its value."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}.{key}" if path else key)
        else:
            yield path, key, tuple(value) if isinstance(value, list) else value


def test_every_setting_is_there_with_its_default() -> None:
    """In the section of its table, or in that of the plug-in that owns it."""
    tables = dict(nested(RunConfig()))
    for path, key, value in leaves(as_dict(RunConfig())):
        text = section("settings.md", settings.label(path))
        assert f"`[{path}]`" in text
        if key not in keys(tables[path]):
            text = "".join(reference()[f"{what}.md"] for what in REGISTRIES)
        rows = [line for line in text.splitlines() if line.startswith(f"| `{key}` |")]
        assert rows, (path, key)
        assert all(f"`{toml(value)}`" in row for row in rows)


@pytest.mark.parametrize("what", REGISTRIES)
def test_every_key_of_a_plug_in_is_in_its_section_and_has_a_meaning(what: str) -> None:
    for name, spec in REGISTRIES[what][2].items():
        if isinstance(own := getattr(spec, "settings", None), type):
            text = section(f"{what}.md", f"{what}-{name}")
            assert [key for key in key_types(own) if f"| `{key}` |" not in text] == []
            unsaid = [key for _, table in nested(own()) for key in keys(table) if key not in meaning(table)]
            assert unsaid == [], name


@pytest.mark.slow
def test_every_setting_has_a_meaning_or_leads_to_the_page_of_its_values() -> None:
    tables = dict(nested(RunConfig()))
    assert [
        f"{path}.{key}"
        for path, table in tables.items()
        for key in keys(table)
        if key not in meaning(table) and f"{path}.{key}" not in settings.REGISTERED
    ] == []


def test_every_key_of_a_scenarios_file_is_there() -> None:
    text = reference()["scenarios.md"].partition("(scenario-keys)=")[2]
    for path, table in nested(Scenario()):
        assert not path or f"`[{path}]`" in text
        assert [key for key in keys(table) if f"| `{key}` |" not in text] == []
        assert [key for key in keys(table) if key not in meaning(table)] == [], path


@pytest.mark.parametrize("what", REGISTRIES)
def test_every_plug_in_is_listed_with_its_description(what: str) -> None:
    _, _, entries = REGISTRIES[what]
    for name, spec in entries.items():
        assert f"## `{name}`\n\n{spec.about}" in reference()[f"{what}.md"]


def test_every_registry_of_the_library_has_a_page() -> None:
    listed = [entries for _, _, entries in REGISTRIES.values()]
    named = ("ADAPTERS", "CODECS", "LINKS", "METHODS", "TRANSPORTS")
    assert [name for name in named if not any(getattr(splitfl, name) is one for one in listed)] == []


@pytest.mark.slow
def test_a_plug_in_of_another_package_is_in_the_reference(tmp_path: Path) -> None:
    with installed(package(tmp_path, "splitfl.codecs", "peaks", PEAKS), CODECS):
        assert "numbers of at least half a row's peak" in pages()["codecs.md"]
    assert "half a row's peak" not in pages()["codecs.md"]


def test_every_command_preset_and_scenario_is_there() -> None:
    paths = [context.command_path for context in commands.contexts()]
    assert {"splitfl run", "splitfl channel show", "splitfl testbed overlay hub"} < set(paths)
    assert [path for path in paths if f"Usage: {path} " not in reference()["commands.md"]] == []
    assert "-h, --help" in reference()["commands.md"]
    assert [name for name in presets.names() if f"## `{name}`" not in reference()["presets.md"]] == []
    assert [name for name in scenario.names() if f"## `{name}`" not in reference()["scenarios.md"]] == []


def test_every_name_of_the_library_is_there() -> None:
    text = reference()["python-splitfl.md"]
    assert [name for name in splitfl.__all__ if f"splitfl.{name}" not in text] == []


@pytest.mark.parametrize("setting", settings.REGISTERED)
def test_a_setting_that_leads_to_another_page_exists(setting: str) -> None:
    path, _, key = setting.rpartition(".")
    assert key in keys(dict(nested(RunConfig()))[path])


@pytest.mark.parametrize(
    ("table", "key", "hint", "found"),
    [
        (FederationConfig(), "clients", int, "at least 1 and at most 1000000"),
        (FederationConfig(), "trim", float, "at least 0.0 and below 0.5"),
        (FederationConfig(), "partition", str, "dirichlet, iid, natural"),
        (FederationConfig(), "client_steps", tuple[int, ...], "at least 1"),
        (LinkConfig().up, "loss_rate", float, "in [0, 1)"),
        (LinkConfig(), "trace", str, ""),
    ],
)
def test_the_allowed_values_are_those_of_the_check(table: object, key: str, hint: Any, found: str) -> None:
    assert allowed(table, key, hint) == found


def test_a_key_means_the_sentences_that_name_it_and_those_that_follow() -> None:
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Table:
        """What is shown. The `rank` is a number. It is small.

        With `alpha` it is scaled.
        """

        rank: int = 1
        alpha: float = 2.0
        names: tuple[str, ...] = ()

    assert meaning(Table()) == {
        "rank": "The `rank` is a number. It is small.",
        "alpha": "With `alpha` it is scaled.",
    }
    assert "| `names` | array of strings | `[]` |" in keys_table(Table())


def test_types_and_values_are_written_as_in_toml() -> None:
    assert type_name(tuple[tuple[float, ...], ...]) == "array of arrays of numbers"
    assert toml(("a", "b")) == '["a", "b"]'
    assert toml(5e11) == "5e+11"
    assert toml(True) == "true"


def test_a_reason_why_not_says_so() -> None:
    text = section("methods.md", "methods-frozen")
    assert "| summable | no: its clients send no adapters |" in text
    assert "`activation`: policies: `skip`; why not: its server caches" in text


def test_fields_of_a_specification_are_words() -> None:
    assert shown(True) == "yes"
    assert shown(frozenset({"b", "a"})) == "`a`, `b`"
    assert shown("its clients send no adapters") == "its clients send no adapters"
    assert shown(lambda: None) == shown("@misc{one}") == shown(()) == ""


def test_writing_leaves_other_pages_away_and_unchanged_ones_alone(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "gone.md").write_text("a page of before")
    before = (tmp_path / "settings.md").stat().st_mtime_ns
    write(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(reference())
    assert (tmp_path / "settings.md").stat().st_mtime_ns == before
