"""A cell that is told its past again is the cell that it was, to the last bit."""

import pytest
import torch

from channel.cell.engine import engine_of
from channel.core.link import Transfer
from channel.scenario.load import load
from splitfl.core.errors import ConfigError
from splitfl.server.replayable_cell import ReplayableCell

CLIENTS = 3
Told = list[tuple[int, str, float, float, int]]


def fresh() -> ReplayableCell:
    return ReplayableCell(engine_of(load("lab-wifi")))


def talk(cell: ReplayableCell, first: int, messages: int) -> Told:
    """So many exchanges in turn; of each who, which way, when it was there and what it cost."""
    told: Told = []
    for number in range(first, first + messages):
        client, direction = number % CLIENTS, ("up", "down")[number // CLIENTS % 2]
        sequence = number // (2 * CLIENTS)
        size = 1000 + 977 * (number % 7)
        cell.submit(
            Transfer(
                client=client,
                direction=direction,
                sequence=sequence,
                payload_bytes=size,
                start_s=cell.now_s,
                recovery="none" if number % 2 else "acknowledged",
                reliable_bytes=size % 64 if number % 2 else 0,
                unit_bytes=64 if number % 2 else 1,
            )
        )
        for transfer, delivery in cell.advance(cell.now_s + 1.0):
            told.append(
                (transfer.client, transfer.direction, delivery.finish_s, delivery.energy_j, delivery.packets)
            )
    return told


def test_a_resumed_cell_continues_as_if_never_stopped() -> None:
    whole, before, after = fresh(), fresh(), fresh()
    told = talk(whole, 0, 40)
    first = talk(before, 0, 23)
    delivered = after.restore(before.state())
    assert first + talk(after, 23, 17) == told
    assert torch.equal(after.state()["past"], whole.state()["past"])
    last = max(key[2] for key in delivered if key[:2] == (0, "up"))
    times = [finish_s for client, way, finish_s, _, _ in first if (client, way) == (0, "up")]
    assert delivered[0, "up", last].finish_s == times[-1]


@pytest.mark.parametrize("state", [{}, {"past": torch.zeros(3, 4)}, {"past": torch.zeros(2, 9)}], ids=str)
def test_a_past_that_is_none_is_refused(state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(ConfigError, match="a checkpoint"):
        fresh().restore(state)
