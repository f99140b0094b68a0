"""What a run writes is whole, or is not there."""

import json
import math
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from channel.core.link import DIRECTIONS, Delivery
from splitfl.accounting.ledger import Ledger
from splitfl.core import checkpoint
from splitfl.core.errors import ConfigError
from splitfl.core.events import Events
from splitfl.server.run import write_json
from tests.full_disk import full_disk


def test_every_line_is_in_the_file_before_the_next_is_begun(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Events(path) as events:
        for number in range(3):
            events.write("step", loss=number / 7)
            lines = path.read_text().splitlines()
            assert [json.loads(line)["loss"] for line in lines] == [i / 7 for i in range(number + 1)]


def test_lines_of_many_threads_do_not_mix(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    with Events(path) as events:
        threads = [
            threading.Thread(target=lambda i=i: [events.write("step", by=i, at=j) for j in range(200)])
            for i in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(rows) == 8 * 200
    assert all([row["at"] for row in rows if row["by"] == i] == list(range(200)) for i in range(8))


def test_events_without_a_path_keep_nothing() -> None:
    with Events(None) as events:
        events.write("step", loss=1.0)


def test_a_checkpoint_gives_back_every_bit(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "state.safetensors"
    tensors = {
        "a": torch.randn(3, 4).T,
        "b": torch.randn(2).bfloat16(),
        "step": torch.tensor(3.0),
        "none": torch.empty(0, 3),
    }
    checkpoint.save(path, tensors, {"round": "2"})
    checkpoint.save(path, tensors, {"round": "3"})
    got, notes = checkpoint.restore(path)
    assert notes == {"round": "3"}
    assert got.keys() == tensors.keys()
    assert all(
        torch.equal(got[name], value) and got[name].dtype == value.dtype for name, value in tensors.items()
    )
    assert [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("content", [None, b"", b"\x08\0\0\0\0\0\0\0{}", b"nonsense" * 9])
def test_a_damaged_checkpoint_is_named(content: bytes | None, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=f"cannot read the checkpoint {path}"):
        checkpoint.restore(path)


@pytest.mark.parametrize("place", range(0, 900, 37))
def test_a_flipped_bit_anywhere_is_found(place: int, tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    tensors = {"a": torch.arange(120.0), "b": torch.tensor(3), "c": torch.ones(7).bfloat16()}
    checkpoint.save(path, tensors, {"round": "2", "seed": "7"})
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1
    path.write_bytes(bytes(data))
    said = ""
    try:
        got, notes = checkpoint.restore(path)
    except ConfigError as error:
        said = str(error)
    if said:
        assert f"cannot read the checkpoint {path}" in said
    else:  # a space of the header's padding became something else that means nothing
        assert (got.keys(), notes) == (tensors.keys(), {"round": "2", "seed": "7"})
        assert all(torch.equal(got[name], value) for name, value in tensors.items())


def test_a_shelf_keeps_two_and_gives_the_last_that_can_be_read(tmp_path: Path) -> None:
    shelf = checkpoint.CheckpointStore(tmp_path)
    assert shelf.newest() is None
    for round_index in range(4):
        shelf.put(round_index, {"at": torch.tensor(round_index)}, {})
    assert shelf.rounds() == [2, 3]
    newest = shelf.newest()
    assert newest is not None
    assert (newest.round, newest.unreadable) == (3, ())
    path = tmp_path / "round-3.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    before = shelf.newest()
    assert before is not None
    assert before.round == 2
    assert [str(path) in one for one in before.unreadable] == [True]
    (tmp_path / "round-2.safetensors").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"round-3.*round-2"):
        shelf.newest()


def test_storing_an_earlier_checkpoint_deletes_the_later_ones(tmp_path: Path) -> None:
    shelf = checkpoint.CheckpointStore(tmp_path)
    for round_index in (0, 1, 2, 1):
        shelf.put(round_index, {"at": torch.tensor(round_index)}, {})
    assert shelf.rounds() == [1]


def test_the_partial_file_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    shelf = checkpoint.CheckpointStore(tmp_path)
    (tmp_path / ".round-3.safetensors.partial").write_bytes(b"half of a")
    shelf.put(5, {"at": torch.tensor(5)}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["round-5.safetensors"]


SHARED = torch.zeros(4)  # safetensors refuses two names for one memory


@pytest.mark.parametrize(
    "write",
    [
        lambda path: checkpoint.save(path, {"a": SHARED, "b": SHARED}, {}),
        lambda path: write_json(path, {"value": object()}),
    ],
    ids=["checkpoint", "json"],
)
def test_a_failed_write_leaves_the_previous_file(write: Callable[[Path], None], tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_bytes(b"before")
    with pytest.raises((TypeError, RuntimeError)):
        write(path)
    assert path.read_bytes() == b"before"
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_a_full_disk_leaves_the_checkpoint_before_it(tmp_path: Path) -> None:
    path = tmp_path / "state"
    checkpoint.save(path, {"a": torch.zeros(4)}, {})
    before = path.read_bytes()
    with full_disk(500), pytest.raises(OSError, match="File too large"):
        checkpoint.save(path, {"a": torch.zeros(4000)}, {})
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["state"]


def test_rounds_that_are_closed_leave_the_totals_as_they_were_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    whole, closed = Ledger(), Ledger()
    for round_index in range(12):
        for client in rng.permutation(3).tolist():
            for direction in DIRECTIONS:
                seconds, joules, flops = rng.random(3)
                delivery = Delivery(
                    arrived=np.ones(2, dtype=np.bool_),
                    finish_s=1.0,
                    retransmissions=1,
                    airtime_s=float(seconds),
                    energy_j=float(joules),
                )
                for ledger in (whole, closed):
                    ledger.crossed(round_index, client, direction, 10, delivery, is_lost=False)
                    ledger.computed(round_index, "client", client, float(flops))
        closed.close(round_index)
        restored = Ledger()
        restored.restore(closed.state())
        closed = restored
    assert {key[0] for key in closed.traffic} == {key[0] for key in closed.flops} == {11}
    for direction in (None, *DIRECTIONS):
        assert closed.total(direction) == whole.total(direction)
    assert closed.total_flops("client") == whole.total_flops("client") > 0.0


def test_an_empty_ledger_adds_up_to_nothing() -> None:
    assert vars(Ledger().total()) == dict.fromkeys(vars(Ledger().total()), 0)
    assert Ledger().total_flops("client") == 0


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_json_has_null_for_values_that_are_not_finite(number: float, tmp_path: Path) -> None:
    def refused(word: str) -> None:
        raise AssertionError(word)

    value = {"loss": number, "rows": [{"loss": 1.5}, (number, "nan")]}
    found = {"loss": None, "rows": [{"loss": 1.5}, [None, "nan"]]}
    with Events(tmp_path / "metrics.jsonl") as events:
        events.write("step", **value)
    write_json(tmp_path / "summary.json", value)
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refused)
    assert line == {"event": "step", **found}
    assert json.loads((tmp_path / "summary.json").read_text(), parse_constant=refused) == found
