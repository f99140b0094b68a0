"""An experiment that a comparison lays methods beside each other on."""

import json
from pathlib import Path

import pytest

from splitfl.config import RunConfig
from tests.splitfl import toy

LINK = {"up": {"rate_bps": 1e6, "delay_s": 0.005}, "down": {"rate_bps": 2e6, "delay_s": 0.005}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("place")
    toy.model(made / "model", is_base=True)
    toy.data(made / "data.tsv")
    return made


@pytest.fixture(scope="module")
def preset(folder: Path) -> Path:
    path = folder / "toy.json"
    path.write_text(json.dumps(toy.table(folder, link=LINK)))
    return path


@pytest.fixture
def config(folder: Path) -> RunConfig:
    return toy.config(folder, link=LINK)
