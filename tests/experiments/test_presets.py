"""The experiments that come along can be had by name, and are what their first lines say."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.presets import about, find, names
from splitfl.config import LinkConfig
from splitfl.setup.links import check_link


@pytest.mark.parametrize("name", names())
def test_a_preset_says_what_it_is_and_has_a_link_that_can_be(name: str) -> None:
    assert len(about(name)) > 40
    check_link(find(name, [])[1])


def test_the_radio_preset_is_the_demos_model_and_data_in_a_street_cell() -> None:
    demo, radio = (find(name, [])[1] for name in ("demo", "radio"))
    assert radio.link == LinkConfig(scenario="urban-micro")
    for table in ("model", "partition", "adapter", "method", "transport"):
        assert getattr(radio, table) == getattr(demo, table)
    assert replace(radio.task, max_length=demo.task.max_length) == demo.task


@pytest.mark.parametrize("name", ["demo", "sst2"])
def test_one_line_puts_a_preset_into_a_cell(name: str) -> None:
    config = find(name, ["link.scenario=indoor-hotspot"])[1]
    assert config.link == LinkConfig(scenario="indoor-hotspot")


def test_a_file_with_a_byte_order_mark_and_an_ending_in_capitals_is_read(tmp_path: Path) -> None:
    path = tmp_path / "FIELD.TOML"
    path.write_bytes(b"\xef\xbb\xbf" + b"[federation]\nclients = 2\n")
    name, config = find(str(path), [])
    assert (name, config.federation.clients) == ("FIELD", 2)
