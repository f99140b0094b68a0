from pathlib import Path

import pytest

from splitfl.core.folder_cache import cached_by_files


def test_a_folder_is_read_again_only_when_a_file_or_an_argument_is_another(tmp_path: Path) -> None:
    calls: list[str] = []

    @cached_by_files
    def read(folder: Path, ending: str = "") -> str:
        calls.append(ending)
        return (folder / "names.txt").read_text(encoding="utf-8") + ending

    names = tmp_path / "names.txt"
    names.write_text("a", encoding="utf-8")
    assert [read(tmp_path), read(tmp_path), read(tmp_path, "!")] == ["a", "a", "a!"]
    assert calls == ["", "!"]
    names.write_text("bc", encoding="utf-8")
    assert read(tmp_path) == "bc"
    (tmp_path / "new.txt").touch()
    read(tmp_path)
    assert calls == ["", "!", "", ""]


def test_an_error_is_raised_anew_each_time(tmp_path: Path) -> None:
    @cached_by_files
    def read(folder: Path) -> str:
        return (folder / "names.txt").read_text(encoding="utf-8")

    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            read(tmp_path / "absent")
    (tmp_path / "names.txt").write_text("a", encoding="utf-8")
    assert read(tmp_path) == "a"
