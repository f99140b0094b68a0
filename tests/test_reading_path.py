"""The files that explain the first run are few and short, and README has their lengths."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
ROW = re.compile(r"^\| \[(?P<file>[\w/.]+)\]\((?P=file)\) \| (?P<lines>\d+) \|", re.MULTILINE)


def reading_path() -> dict[str, int]:
    """The files of README's reading path, with the number of lines that it names."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text[text.index("## Reading the code") :]
    return {row["file"]: int(row["lines"]) for row in ROW.finditer(section)}


def test_readme_has_the_length_of_each_file_of_the_reading_path() -> None:
    lengths = {file: len((ROOT / file).read_text(encoding="utf-8").splitlines()) for file in reading_path()}
    assert reading_path() == lengths


def test_the_reading_path_has_at_most_ten_files_and_a_thousand_lines() -> None:
    path = reading_path()
    assert {"experiments/presets/demo.toml", "splitfl/server/exchange.py"} < path.keys()
    assert len(path) <= 10
    assert sum(path.values()) <= 1000
