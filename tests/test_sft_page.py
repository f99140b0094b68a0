"""The page on supervised finetuning runs, from its first block to its last, with a tiny model."""

import re
from pathlib import Path

import pytest

from tests.splitfl import toy

PAGE = Path(__file__).parent.parent / "docs" / "sft.md"
MODEL = '"Qwen/Qwen2.5-0.5B-Instruct"'


@pytest.mark.slow
def test_the_code_of_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = PAGE.read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert len(blocks) == 3
    assert text.count(MODEL) == 1
    folder = toy.chat_model(tmp_path / "model", max_position_embeddings=320)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block.replace(MODEL, repr(str(folder))), str(PAGE), "exec"), names)
