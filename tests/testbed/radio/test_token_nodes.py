"""Runs whose server and clients are processes with a radio each, around the air of another process."""

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from tests.channel.iq.free_ports import free_ports
from tests.command import Start, splitfl
from tests.splitfl import toy
from tests.testbed.radio.test_token_carrier import edge, events, ran

place = toy.place()

PATIENCE = {"timeout_s": 20.0, "join_timeout_s": 100.0}


def ran_between_processes(
    place: Path, folder: Path, start: Start, loss_db: float, **tables: Any
) -> tuple[Path, str]:
    """The folder of a toy run over an air with this path loss, and what it said."""
    port = free_ports(6)
    options = ("--rate", "5e5", "--port", str(port), "--timeout", "20")
    splitfl(start, folder, "channel", "air", edge(folder, loss_db), *options)
    radio = {"name": "radio-nodes", "air_port": port, "rate_hz": 5e5, **PATIENCE}
    out = ran(place, folder / "run", radio, **tables)
    return out, ""


@pytest.mark.slow
def test_a_run_between_processes_with_everything_acknowledged_has_the_bits_of_one_in_process(
    place: Path, tmp_path: Path, start: Start
) -> None:
    for name in ("near", "run"):
        (tmp_path / name).mkdir()
    near = ran(place, tmp_path / "near", {"name": "inproc"})
    far, _ = ran_between_processes(place, tmp_path, start, 125.0)
    one, other = (
        safetensors.torch.load_file(folder / "adapter" / "adapter_model.safetensors")
        for folder in (near, far)
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert [row["loss"] for row in events(near, "step")] == [row["loss"] for row in events(far, "step")]
    assert all(row["airtime_s"] > 0.0 for row in events(far, "transfer"))
