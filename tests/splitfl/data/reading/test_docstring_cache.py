"""The corpus that is kept is the corpus that was parsed, or it is parsed again."""

import json
import os
from pathlib import Path

import pytest

from splitfl.data.reading import docstring_cache, stdlib
from splitfl.data.reading.docstring_cache import Sources, Texts, parsed_once


class Parser:
    """Counts how often it had to parse."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, sources: Sources) -> Texts:
        self.times += 1
        return {f"{path.read_text()} é": module for module, path in sources}


@pytest.fixture
def sources(tmp_path: Path) -> Sources:
    found = []
    for module in ("zipfile", "email", "socket"):
        path = tmp_path / f"{module}.py"
        path.write_text(f"what {module} says")
        found.append((module, path))
    return found


def kept_in(folder: Path) -> Path:
    (path,) = folder.iterdir()
    return path


def test_sources_are_parsed_once_and_their_order_is_kept(tmp_path: Path, sources: Sources) -> None:
    parse = Parser()
    first, second = (parsed_once(sources, parse, tmp_path / "cache") for _ in range(2))
    assert list(first.items()) == list(second.items()) == list(Parser()(sources).items())
    assert parse.times == 1


def test_a_source_that_changed_or_is_new_or_gone_is_noticed(tmp_path: Path, sources: Sources) -> None:
    parse, folder = Parser(), tmp_path / "cache"
    parsed_once(sources, parse, folder)
    path = sources[0][1]
    path.write_text(path.read_text().upper())  # of the same size
    os.utime(path, ns=(1, 1))
    assert "WHAT ZIPFILE SAYS é" in parsed_once(sources, parse, folder)
    assert len(parsed_once(sources[1:], parse, folder)) == 2
    assert len(parsed_once(sources, parse, folder)) == 3
    assert parse.times == 4


def test_another_python_parses_for_itself(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    parse, folder = Parser(), tmp_path / "cache"
    parsed_once(sources, parse, folder)
    monkeypatch.setattr(docstring_cache.sys, "version", "4.0")
    parsed_once(sources, parse, folder)
    assert parse.times == 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"key": 1}', "\xff", "another word"])
def test_a_damaged_corpus_is_parsed_again_and_replaced(tmp_path: Path, sources: Sources, damage: str) -> None:
    parse, folder = Parser(), tmp_path / "cache"
    texts = parsed_once(sources, parse, folder)
    path = kept_in(folder)
    whole = path.read_bytes()
    damaged = whole.replace(b"zipfile says", b"zipfile sang") if damage == "another word" else damage
    path.write_bytes(damaged if isinstance(damaged, bytes) else damaged.encode("latin-1"))
    assert parsed_once(sources, parse, folder) == texts
    assert kept_in(folder).read_bytes() == whole
    assert parse.times == 2


def test_where_nothing_can_be_kept_the_texts_are_there_all_the_same(tmp_path: Path, sources: Sources) -> None:
    (tmp_path / "cache").write_text("a file, not a folder")
    assert len(parsed_once(sources, Parser(), tmp_path / "cache")) == 3


def test_a_disk_that_fills_leaves_no_part_of_a_file(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(docstring_cache.os, "replace", full)
    assert len(parsed_once(sources, Parser(), tmp_path / "cache")) == 3
    assert not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("named", [True, False])
def test_the_folder_is_the_users_own(
    tmp_path: Path, sources: Sources, monkeypatch: pytest.MonkeyPatch, named: bool
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "named") if named else "not/absolute")
    parsed_once(sources, Parser())
    assert kept_in(tmp_path / ("named" if named else "home/.cache") / "splitfl").suffix == ".json"


def test_without_a_home_the_texts_are_there_all_the_same(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(docstring_cache.Path, "home", homeless)
    assert len(parsed_once(sources, Parser())) == 3


def test_the_standard_librarys_corpus_comes_from_the_cache_with_the_same_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "socket.py").write_text('"""Words enough to be kept here."""')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(stdlib.sysconfig, "get_path", lambda name: str(tmp_path))
    parsed = stdlib.topics()
    monkeypatch.setattr(stdlib, "_docstrings", lambda path: pytest.fail("parsed twice"))
    kept = stdlib.topics()
    assert (kept.texts, kept.groups) == (parsed.texts, parsed.groups)
    assert kept.keys.tobytes() == parsed.keys.tobytes()
    assert json.loads(kept_in(tmp_path / "cache" / "splitfl").read_bytes())["texts"]
