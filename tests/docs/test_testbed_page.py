"""The page on testbeds names every key of an inventory."""

import dataclasses

import pytest

from testbed.inventory.load import _KEYS, _TABLES
from testbed.inventory.nodes import Node
from tests.docs.pages import DOCS

PAGE = (DOCS / "how-to" / "testbed.md").read_text(encoding="utf-8")
FIELDS = {one.name for kind in (Node, *_TABLES.values()) for one in dataclasses.fields(kind)} - {"name"}


@pytest.mark.parametrize("key", sorted({*_KEYS, *FIELDS} - {"nodes"}))
def test_the_page_explains_the_key(key: str) -> None:
    table = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert any(f"`{key}`" in line or f".{key}`" in line or f"`{key}." in line for line in table)
