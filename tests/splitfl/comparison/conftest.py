"""An experiment that a comparison lays methods beside each other on."""

import json
from pathlib import Path

import pytest

from splitfl.config import RunConfig
from tests.splitfl import toy

LINK = {"up": {"rate_bps": 1e6, "delay_s": 0.005}, "down": {"rate_bps": 2e6, "delay_s": 0.005}}


folder = toy.place(is_base=True)


@pytest.fixture(scope="module")
def preset(folder: Path) -> Path:
    path = folder / "toy.json"
    path.write_text(json.dumps(toy.table(folder, link=LINK)))
    return path


@pytest.fixture
def config(folder: Path) -> RunConfig:
    return toy.config(folder, link=LINK)
