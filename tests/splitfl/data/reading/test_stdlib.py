import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

from splitfl.core.errors import DataError
from splitfl.data.examples import Examples
from splitfl.data.reading import stdlib


@pytest.fixture(scope="module")
def corpus() -> Examples:
    return stdlib.topics()


def test_there_are_thousands_of_docstrings(corpus: Examples) -> None:
    assert len(corpus) >= 5000
    assert all(len(text.split()) >= stdlib.MIN_WORDS for text in corpus.texts)
    assert len(set(corpus.texts)) == len(corpus)


def test_no_area_is_rare_and_none_dominates(corpus: Examples) -> None:
    assert corpus.labels is not None
    shares = np.bincount(corpus.labels, minlength=len(stdlib.AREAS)) / len(corpus)
    assert shares.min() >= 0.01
    assert shares.max() <= 0.25


@pytest.mark.parametrize(
    ("module", "area"),
    [
        ("email", "internet data"),
        ("socket", "networking and security"),
        ("threading", "concurrency"),
        ("statistics", "numbers and functions"),
        ("zipfile", "files and archives"),
        ("unittest", "development tools"),
    ],
)
def test_a_module_is_in_the_area_that_a_person_would_say(corpus: Examples, module: str, area: str) -> None:
    assert corpus.labels is not None
    found = {stdlib.AREA_NAMES[corpus.labels[i]] for i, group in enumerate(corpus.groups) if group == module}
    assert found == {area}


def test_no_module_is_in_two_areas() -> None:
    modules = [module for names in stdlib.AREAS.values() for module in names.split()]
    assert len(modules) == len(set(modules)) == len(stdlib.AREA_OF)


def test_every_documented_module_of_this_python_has_an_area_or_a_reason_to_have_none() -> None:
    root = Path(sysconfig.get_path("stdlib"))
    tops = {path.name.removesuffix(".py"): path for path in root.iterdir() if path.suffix in ("", ".py")}
    unknown = set(tops) & set(sys.stdlib_module_names) - set(stdlib.AREA_OF) - stdlib.LEFT_OUT
    for module in unknown - stdlib.SKIPPED_FOLDERS:
        paths = tops[module].rglob("*.py") if tops[module].is_dir() else [tops[module]]
        assert not [text for path in paths for text in stdlib._docstrings(path)], module


def test_language_modelling_takes_the_same_text_without_labels(tmp_path: Path) -> None:
    (tmp_path / "socket.py").write_text('"""Words enough to be kept here."""')
    assert stdlib.plain(tmp_path).labels is None
    assert stdlib.plain(tmp_path).texts == stdlib.topics(tmp_path).texts


def test_docstrings_of_modules_classes_and_functions_are_found_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "socket.py").write_text(
        '"""A module with\n\n  much white   space."""\n'
        'text = """no docstring, however long it is"""\n'
        "if text:\n"
        '    class Thing:\n        """A class under a condition here."""\n'
        '        async def method(self):\n            """An asynchronous method of this class."""\n'
        '            def inner():\n                """A function within another function."""\n'
        'def short():\n    """Too short."""\n'
    )
    (tmp_path / "email" / "test").mkdir(parents=True)
    (tmp_path / "email" / "test" / "a.py").write_text('"""This is a test and is left out."""')
    (tmp_path / "email" / "damaged.py").write_text("def (")
    (tmp_path / "unheard_of.py").write_text('"""A module that has no area yet."""')
    found = stdlib.topics(tmp_path)
    assert sorted(found.texts) == [
        "A class under a condition here.",
        "A function within another function.",
        "A module with much white space.",
        "An asynchronous method of this class.",
    ]
    assert set(found.groups) == {"socket"}


def test_a_python_without_sources_is_refused_with_a_way_out(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DataError, match=r"no Python sources .* choose task classification or lm"):
            stdlib.topics(folder)
