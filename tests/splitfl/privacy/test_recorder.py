"""What is recorded of a round: bounded, independent of the order of arrival, each message once."""

# B batch, T tokens, D hidden

from pathlib import Path

import pytest
import torch
from torch import Tensor

from splitfl.core.errors import ConfigError
from splitfl.core.messages import Activation, Begin, Done, Gradient, Output
from splitfl.methods.parts.method import Turn
from splitfl.models.token_rows import pack
from splitfl.privacy.observation import FOLDER, Observation, observed_rounds
from splitfl.privacy.recorder import MessageRecorder
from splitfl.setup.experiment_file import from_dict

D = 3


def recorder(samples: int = 6, clients: int = 2, rounds: int = 4, every: int = 2) -> MessageRecorder:
    privacy = {"probes": ["linear"], "samples": samples, "every": every}
    config = from_dict({"privacy": privacy, "federation": {"clients": clients, "rounds": rounds}})
    return MessageRecorder(config, lambda: {"weight": torch.zeros(2)})


def turn(client: int, lap: int, round_index: int = 0) -> Turn:
    return Turn(client=client, round=round_index, lap=lap, position=0)


def activation(first: int, count: int, width: int = 4, lengths: tuple[int, ...] = ()) -> Activation:
    """Sample `n` has hidden states n, with the place behind the point."""
    numbers = torch.arange(first, first + count)
    hidden_BTD = (numbers[:, None] + torch.arange(width) / 10)[..., None].expand(-1, -1, D)
    mask_BT = torch.arange(width) < torch.tensor(lengths)[:, None] if lengths else None
    context = {} if mask_BT is None else {"mask": mask_BT}
    return Activation(ids_B=numbers, hidden=pack(hidden_BTD, mask_BT), context=context)


def numbers(observation: Observation | None) -> list[tuple[int, int, int]]:
    assert observation is not None
    return [(one.client, one.lap, one.number) for one in observation.samples]


def test_the_quota_is_divided_among_clients_whatever_the_order_of_their_messages() -> None:
    messages = [
        (turn(0, 1), activation(0, 2)),
        (turn(0, 2), activation(2, 2)),
        (turn(1, 1), activation(5, 4)),
    ]
    found = []
    for order in ((0, 1, 2), (2, 0, 1)):
        one = recorder()
        for index in order:
            one.exchanged(*messages[index], Done())
        found.append(numbers(one.ended(0)))
    assert found[0] == found[1] == [(0, 1, 0), (0, 1, 1), (0, 2, 2), (1, 1, 5), (1, 1, 6), (1, 1, 7)]


def test_a_message_that_is_received_twice_counts_once() -> None:
    one = recorder()
    for _ in range(2):
        one.exchanged(turn(0, 1), activation(0, 2), Done())
    assert numbers(one.ended(0)) == [(0, 1, 0), (0, 1, 1)]


def test_tokens_are_recorded_at_their_places_without_padding() -> None:
    one = recorder()
    one.exchanged(turn(0, 1), activation(0, 2, lengths=(2, 3)), Done())
    found = one.ended(0)
    assert found is not None
    assert [sample.places_T.tolist() for sample in found.samples] == [[0, 1], [0, 1, 2]]
    assert torch.allclose(found.samples[1].hidden_TD[:, 0], torch.tensor([1.0, 1.1, 1.2]))


def test_of_several_perturbed_hidden_states_the_first_is_recorded() -> None:
    plain = activation(0, 2, lengths=(2, 3))
    assert isinstance(plain.hidden, Tensor)
    several = Activation(
        ids_B=plain.ids_B, hidden=torch.stack([plain.hidden, plain.hidden + 7]), context=plain.context
    )
    one, other = recorder(), recorder()
    one.exchanged(turn(0, 1), plain, Done())
    other.exchanged(turn(0, 1), several, Done())
    first, second = one.ended(0), other.ended(0)
    assert first is not None
    assert second is not None
    for a, b in zip(first.samples, second.samples, strict=True):
        assert torch.equal(a.hidden_TD, b.hidden_TD)


def test_a_gradient_belongs_to_the_samples_of_the_message_before() -> None:
    one, sent = recorder(samples=2, clients=1), activation(0, 3, lengths=(2, 3, 1))
    assert isinstance(sent.hidden, Tensor)
    one.exchanged(turn(0, 1), sent, Output(ids_B=sent.ids_B, hidden=sent.hidden * 10))
    one.exchanged(turn(0, 2), Gradient(ids_B=sent.ids_B, grad=sent.hidden * 100, loss=1.0), Done())
    found = one.ended(0)
    assert found is not None
    assert [sample.batch_size for sample in found.samples] == [3, 3]
    for sample in found.samples:
        assert isinstance(sample.output_TD, Tensor)
        assert isinstance(sample.grad_TD, Tensor)
        assert torch.equal(sample.output_TD, sample.hidden_TD * 10)
        assert torch.equal(sample.grad_TD, sample.hidden_TD * 100)


def test_the_first_the_last_and_each_second_round_are_observed() -> None:
    one = recorder(rounds=4, every=2)
    assert [one.ended(number) is not None for number in range(4)] == [True, False, True, True]


def test_an_observation_is_stored_with_the_trained_tensors_of_the_beginning(tmp_path: Path) -> None:
    one = recorder()
    one.exchanged(turn(0, 0), Begin(steps=1), Done())
    one.exchanged(turn(0, 1), activation(0, 2), Done())
    found = one.ended(0)
    assert found is not None
    found.save(tmp_path)
    again = Observation.load(tmp_path, 0)
    assert observed_rounds(tmp_path) == [0]
    assert numbers(again) == numbers(found)
    assert torch.equal(again.trained["weight"], torch.zeros(2))
    assert torch.equal(again.samples[1].hidden_TD, found.samples[1].hidden_TD)

    path = tmp_path / FOLDER / "round-0.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"cannot read .*round-0"):
        Observation.load(tmp_path, 0)
