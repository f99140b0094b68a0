"""Run folders that travel as archives."""

import io
import zipfile
from pathlib import Path

import pytest

from splitfl.comparison.folder_archive import pack, unpack
from splitfl.core.errors import WireError


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.*")}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "there" / "seed-0"
    (folder / "adapter").mkdir(parents=True)
    (folder / "summary.json").write_text("{}")
    (folder / "adapter" / "model.safetensors").write_bytes(bytes(range(256)) * 64)
    return folder


def test_an_unpacked_folder_equals_the_packed_one_and_replaces_what_was_there(
    run: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "here" / "seed-0"
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("of an interrupted run")
    unpack(pack(run), folder)
    assert contents(folder) == contents(run)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_run_without_a_folder_has_an_empty_archive(tmp_path: Path) -> None:
    assert pack(tmp_path / "none") == b""


def named(name: str) -> bytes:
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as file:
        file.writestr(name, b"text")
    return whole.getvalue()


@pytest.mark.parametrize("name", ["../summary.json", "/summary.json", "a/../../summary.json"])
def test_an_archive_cannot_write_outside_its_folder(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "seed-0"
    with pytest.raises(WireError, match=r"summary.json' is not below the folder"):
        unpack(named(name), folder)
    assert list(tmp_path.rglob("*.json")) == []


@pytest.mark.parametrize("damage", ["truncated", "changed"])
def test_a_damaged_archive_leaves_the_folder_as_it_was(damage: str, run: Path, tmp_path: Path) -> None:
    archive = bytearray(pack(run))
    if damage == "truncated":
        del archive[-30:]
    else:
        archive[archive.index(b"model.safetensors") + 40] ^= 1
    folder = tmp_path / "here" / "seed-0"
    folder.mkdir(parents=True)
    with pytest.raises(WireError, match=r"the archive of .*seed-0 is damaged: "):
        unpack(bytes(archive), folder)
    assert list(folder.parent.rglob("*")) == [folder]


def test_a_folder_above_the_limit_is_neither_packed_nor_unpacked(run: Path, tmp_path: Path) -> None:
    with pytest.raises(WireError, match="the run folder has 16,386 bytes; at most 100 are sent"):
        pack(run, max_bytes=100)
    with pytest.raises(WireError, match="it holds 16,386 bytes, of which at most 100 are read"):
        unpack(pack(run), tmp_path / "here", max_bytes=100)
    assert not (tmp_path / "here").exists()
