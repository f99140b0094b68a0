"""The site builds without warnings, and its pages load nothing from the network."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, pages

LOADED = re.compile(r"<(?:script|img|iframe|source)\b[^>]*\bsrc=\"([^\"]+)\"|<link\b[^>]*\bhref=\"([^\"]+)\"")
STYLE = re.compile(r"(?:@import|url\()\s*[\"']?(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(name, reason="the extra `docs` is not installed; `make docs` does it")
    folder = tmp_path_factory.mktemp("docs")
    shutil.copytree(DOCS, folder / "docs", ignore=shutil.ignore_patterns("reference"))
    words = [sys.executable, "-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-b", "html"]
    done = subprocess.run(
        [*words, folder / "docs", folder / "html"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder / "html"


@pytest.mark.slow
def test_every_page_is_in_the_site(site: Path) -> None:
    assert [page.name for page in pages() if not (site / f"{page.name}.html").exists()] == []
    assert (site / "reference" / "settings.html").exists()


@pytest.mark.slow
def test_no_page_loads_anything_from_the_network(site: Path) -> None:
    found = {
        target
        for page in site.rglob("*.html")
        for match in LOADED.findall(page.read_text(encoding="utf-8"))
        for target in match
        if target.startswith(("http:", "https:", "//"))
    }
    assert found == set()
    assert [path for path in site.rglob("*.css") if STYLE.search(path.read_text(encoding="utf-8"))] == []
