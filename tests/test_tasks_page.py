"""The page on tasks names every task of one's own data, and the setting of every column."""

from pathlib import Path

from splitfl.data.reading.forms import USUAL
from splitfl.data.tasks import TASKS

PAGES = [Path(__file__).parent.parent / "docs" / name for name in ("tasks.md", "sft.md")]


def test_every_task_and_column_stands_in_the_page() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    own = [name for name, entry in TASKS.items() if entry.form is not None and name != "sst2"]
    assert [name for name in own if f"`{name}`" not in text] == []
    assert [role for role in USUAL if f"{role}_column`" not in text] == []
    assert [name for names in USUAL.values() for name in names[:2] if f"`{name}`" not in text] == []
