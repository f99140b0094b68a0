"""E2E's lines become texts that end, and what people said is found by what was to be said."""

from pathlib import Path

import pytest

from splitfl.core.errors import DataError
from splitfl.data.reading.e2e import END, load_e2e, references


def test_every_line_is_a_text_that_ends_and_its_properties_are_its_group(tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("name : A | food : B||A has B . \n\nname : C||C is there .\n")
    (tmp_path / "test.txt").write_text("name : D||D .\n")
    corpus = load_e2e(tmp_path, "refuse")
    assert sorted(corpus.train.texts) == [
        f"name : A | food : B||A has B .{END}",
        f"name : C||C is there .{END}",
    ]
    assert set(corpus.train.groups) == {"name : A | food : B", "name : C"}
    assert corpus.held_out.texts == (f"name : D||D .{END}",)


def test_the_development_part_goes_before_the_test_part(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.txt").write_text(f"name : {name}||{name} .\n")
    assert load_e2e(tmp_path, "refuse").held_out.groups == ("name : dev",)


def test_texts_with_the_same_properties_form_one_group() -> None:
    said = references([f"name : A||one{END}", f"name : B||two{END}", f"name : A||three{END}"])
    assert said == {"name : A||": ["one", "three"], "name : B||": ["two"]}


@pytest.mark.parametrize("line", ["no separator", "||only a text", "only properties||"])
def test_a_malformed_line_is_refused_or_counted(line: str, tmp_path: Path) -> None:
    for name in ("train", "test"):
        (tmp_path / f"{name}.txt").write_text(f"name : A||A .\n{line}\n")
    with pytest.raises(DataError, match=r"train\.txt, line 2: must be properties, \|\| and a text"):
        load_e2e(tmp_path, "refuse")
    assert load_e2e(tmp_path, "skip").skipped_rows == 2


def test_a_folder_without_the_files_is_refused_with_their_names(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"cannot read .*train\.txt.*give a folder with train\.txt and test\.txt"
    ):
        load_e2e(tmp_path, "refuse")
