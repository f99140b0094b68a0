"""The experiments that come along can be had by name, and are what their first lines say."""

import math
from dataclasses import replace
from pathlib import Path

import pytest

import splitfl
from experiments import presets
from experiments.presets import about, find, names, without_learning
from splitfl.adapters.kind import LowRank
from splitfl.adapters.registry import side_config
from splitfl.config import LinkConfig
from splitfl.core.errors import ConfigError
from splitfl.methods.settings import refuse_unread
from splitfl.setup.links import check_link
from splitfl.transport.security.credentials import TlsFiles


@pytest.mark.parametrize("name", names())
def test_a_preset_has_a_description_and_a_valid_link(name: str) -> None:
    assert len(about(name)) > 40
    check_link(find(name, [])[1])


@pytest.mark.slow
def test_pretraining_from_random_weights_lowers_the_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    lines = [f"    def method_{number}(self):\n        return {number}\n" for number in range(300)]
    for name in ("train/a.py", "train/b.py", "train/c.py", "dev/a.py"):
        path = tmp_path / "texts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines))
    found = splitfl.run(
        presets.FOLDER / "pretrain.toml",
        out=tmp_path,
        screen=splitfl.Silent(),
        task={"name": "corpus", "data": str(tmp_path / "texts"), "max_length": 32},
        federation={"rounds": 2, "local_steps": 8},
    )
    first, last = found.metrics["eval_loss"]
    assert last < first - 0.05 < math.log(257)


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


FILE = """
method = {name = "cse-fsl", auxiliary_blocks = 1}
adapter = {head = {rank = 2}, body = {rank = 3}}
train = {head_lr = 0.5, body_lr = 0.25}
federation = {aggregator = "rolora"}
link = {up = {rate_bps = 1e6}, down = {rate_bps = 2e6}}
"""


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.toml"
    path.write_text(FILE)
    return str(path)


@pytest.fixture
def preset(file: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(presets, "FOLDER", Path(file).parent)
    return "mine"


@pytest.mark.parametrize("kind", ["file", "preset"])
def test_keys_of_another_method_in_a_preset_or_file_are_left_out_and_named(
    kind: str, request: pytest.FixtureRequest
) -> None:
    said: list[str] = []
    _, config = find(request.getfixturevalue(kind), ["method.name=frozen"], said.append)
    assert said == [
        "dropped from mine, since the method 'frozen' does not have them: adapter.head, "
        "method.auxiliary_blocks, train.head_lr"
    ]
    refuse_unread(config)
    assert config.adapter.head == side_config()
    assert (config.train.body_lr, config.adapter.body.of(LowRank).rank) == (0.25, 3)


def test_a_setting_beside_another_method_is_still_obeyed_or_refused(file: str) -> None:
    said: list[str] = []
    _, config = find(file, ["method.name=frozen", "train.head_lr=0.125"], said.append)
    assert "train.head_lr" in said[0]
    with pytest.raises(ConfigError, match=r"'frozen' does not read train.head_lr.* got 0.125"):
        refuse_unread(config)


def test_a_key_that_the_files_own_method_does_not_read_is_refused(file: str) -> None:
    Path(file).write_text(FILE.replace("cse-fsl", "frozen"))
    said: list[str] = []
    for overrides in ([], ["method.name=frozen"]):
        with pytest.raises(
            ConfigError, match=r"unknown key 'method.auxiliary_blocks'; the method 'frozen' has"
        ):
            find(file, overrides, said.append)
    assert not said


def test_keys_that_another_transport_or_adapter_kind_does_not_have_are_left_out_and_named(
    tmp_path: Path,
) -> None:
    path, said = tmp_path / "mine.toml", list[str]()
    path.write_text(
        'transport = {name = "mqtt", topic = "mine", tls_ca = "ca", timeout_s = 3}\n'
        'adapter = {head = {kind = "lora", rank = 2, alpha = 4, targets = ["query"]}}\n'
    )
    chosen = ["adapter.head.kind=vera", "transport.name=grpc"]
    _, config = find(str(path), chosen, said.append)
    assert said == [
        "dropped from mine, since the adapter kind 'vera' does not have them: adapter.head.alpha",
        "dropped from mine, since the transport 'grpc' does not have them: transport.topic",
    ]
    assert config.adapter.head == side_config("vera", rank=2, targets=("query",))
    assert config.transport.of(TlsFiles).tls_ca == "ca"
    assert without_learning(str(path), chosen).transport == config.transport
    for word, error in (
        ("transport.topic=new", r"unknown key 'transport.topic'; the transport 'grpc' has .* key of mqtt"),
        (
            "adapter.head.alpha=1",
            r"unknown key 'adapter.head.alpha'; the adapter kind 'vera' has .* key of lora",
        ),
    ):
        with pytest.raises(ConfigError, match=error):
            find(str(path), [*chosen, word])


@pytest.mark.parametrize("kind", ["file", "preset"])
def test_the_rates_of_a_preset_or_a_file_give_way_to_a_scenario_and_are_named(
    kind: str, request: pytest.FixtureRequest
) -> None:
    said: list[str] = []
    _, config = find(request.getfixturevalue(kind), ["link.scenario=urban-micro"], said.append)
    assert config.link == LinkConfig(scenario="urban-micro")
    assert said == [
        "dropped from mine, since a link.scenario or link.trace has its own rates: link.up, link.down"
    ]


def test_a_file_with_no_table_where_one_belongs_is_refused_beside_another_method(tmp_path: Path) -> None:
    path = tmp_path / "odd.toml"
    path.write_text("train = 3")
    with pytest.raises(ConfigError, match="train must be a table, got 3"):
        find(str(path), ["method.name=frozen", "link.scenario=urban-micro"])
