"""Clients without backpropagation hold nothing for a way back; those with it do."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from splitfl.accounting.flops import cost
from splitfl.core.messages import Activation, Adapter, Done, Gradient, Message, Output, Reply, Scalars
from splitfl.methods.registry import METHODS
from splitfl.setup.experiment import Experiment
from splitfl.setup.pieces import PieceLoader
from tests.quick import quick
from tests.splitfl import toy

# torch itself compiles what forward mode needs the first time it is used, in a way that it has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated:DeprecationWarning")

WITH = [name for name, spec in METHODS.items() if spec.backpropagates]
WITHOUT = [name for name in METHODS if name not in WITH]
SETTINGS: dict[str, dict[str, Any]] = {"fedkseed": {"pool": 8}}


place = toy.place(rows=40)


def answer(name: str, message: Message) -> Reply:
    """What its server might say, made up, of the kind that its spec declares."""
    steps = dict(METHODS[name].signature.step)
    match message:
        case Activation(ids_B=ids_B, hidden=Tensor() as hidden):
            if steps[Activation] is Output:
                return Output(ids_B=ids_B, hidden=hidden)
            if steps[Activation] is Gradient:
                return Gradient(ids_B=ids_B, grad=torch.ones_like(hidden))
            if steps[Activation] is Scalars:
                values = torch.ones(4, 2) if name == "hosl" else torch.ones(1, 1)
                return Scalars(round=0, values=values, steps=(1,))
        case Gradient():
            return Gradient(ids_B=message.ids_B, grad=message.grad)
    return Done()


def saved_by(name: str, place: Path) -> tuple[int, Message]:
    """How many tensors a client's round saves for a way back, and its last message."""
    method = {"name": name, **SETTINGS.get(name, {})}
    tables = {"method": method, "federation": {"clients": 1, "rounds": 1, "local_steps": 2}}
    client, saved = Experiment.of(toy.config(place, **tables)).client_method(0), list[torch.Size]()

    def pack_hook(tensor: Tensor) -> Tensor:
        saved.append(tensor.shape)
        return tensor

    run = client.round(0)
    message = next(run)
    with torch.autograd.graph.saved_tensors_hooks(pack_hook, lambda tensor: tensor):
        while True:
            try:
                message = run.send(answer(name, message))
            except StopIteration:
                return len(saved), message


@pytest.mark.parametrize("name", quick(WITHOUT, "heron", "hiso", "fedkseed", "spry"))
def test_methods_without_backpropagation_save_no_tensors(name: str, place: Path) -> None:
    saved, last = saved_by(name, place)
    assert saved == 0
    if isinstance(last, Adapter | Scalars):
        assert last.samples == 16


@pytest.mark.parametrize("name", quick(WITH, "sfl-v2", "sfl-v1"))
def test_methods_with_backpropagation_save_tensors(name: str, place: Path) -> None:
    saved, _ = saved_by(name, place)
    assert saved > 0


def test_a_frozen_head_has_no_adapter(place: Path) -> None:
    own = Experiment.of(toy.config(place, method={"name": "frozen"}))
    client, batch = own.client_method(0), own.batches(0).batch(0)
    run = client.round(0)
    next(run)
    run.send(Done())
    pieces = PieceLoader(config=own.config, task=own.task, num_blocks=own.num_blocks, device="cpu")
    bare, adapted = (cost(pieces.head(is_bare=bare), *batch.shape).forward_flops for bare in (True, False))
    assert client.take_flops() == bare < adapted
    assert list(pieces.head(is_bare=True).state_dict()) == [
        name.replace(".base_layer.", ".") for name in pieces.head().state_dict() if ".lora_" not in name
    ]
