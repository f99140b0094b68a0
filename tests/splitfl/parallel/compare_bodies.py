"""Run by torchrun: bodies on several ranks against the same body on one device.

They have its bits, except with `tensor`, whose sums have another order.

Prints, on rank 0, a line for each case that was compared.
"""

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from splitfl.config import TENSOR
from splitfl.methods.parts.method import Turn
from splitfl.methods.parts.server_model import BodyStep, ServerModel
from splitfl.parallel.launch import launch
from splitfl.parallel.ranks import Ranks, store_of
from splitfl.parallel.server_side import BODIES
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy

STEPS = 2
LOSS_TOLERANCE, GRADIENT_TOLERANCE = 1e-5, 1e-4


def compare(ranks: Ranks, folder: Path, way: str, tables: Any) -> None:
    """Raises AssertionError where a step on all ranks differs from one on one device.

    With `tensor` every step starts from the same values: AdamW turns any difference in a gradient's sign, of
    values close to zero, into one of a whole step.
    """
    config = toy.config(folder, **tables)
    experiment = Experiment.of(config)
    server = dataclasses.replace(config.server, shard=way, ranks=ranks.size)
    sharded = dataclasses.replace(config, server=server)
    loader = experiment.pieces(config.server)
    one = ServerModel.of(loader.body(), config)
    many = ServerModel.of(BODIES[way](dataclasses.replace(loader, config=sharded), ranks), sharded)
    head, batches = loader.head(), experiment.batches(0)
    for step in range(STEPS):
        batch = batches.batch(step)
        with torch.no_grad():
            hidden_BTD = head(batch.inputs)
        turn = Turn(client=0, round=0, lap=step + 1, position=step)
        found = []
        for body in (one, many):
            trained = body.training_step(turn, batch.ids_B, step)
            context = head.context_of(batch.inputs)
            computed = body.compute(step, hidden_BTD, context, batch.labels, trained, wants_hidden_grad=True)
            found.append(computed)
            body.commit(turn, computed)
        if way == TENSOR:
            assert_close(*found)
            many.restore(one.state())
        else:
            assert_equal(*found)
    for name, value in one.state().items():
        assert torch.equal(value, many.state()[name]), name
    losses, flops = zip(
        *(body.losses(STEPS, [hidden_BTD], context, batch.labels) for body in (one, many)), strict=True
    )
    assert flops[0] == flops[1]
    if way == TENSOR:
        assert abs(losses[0][0] - losses[1][0]) <= LOSS_TOLERANCE
    else:
        assert losses[0] == losses[1]


def assert_equal(one: BodyStep, many: BodyStep) -> None:
    """The same loss, FLOPs and gradients."""
    assert one.loss == many.loss, (one.loss, many.loss)
    assert one.flops == many.flops
    for first, second in zip(_grads(one), _grads(many), strict=True):
        assert torch.equal(first, second), (first - second).abs().max()


def assert_close(one: BodyStep, many: BodyStep) -> None:
    """The same loss, FLOPs and gradients within the tolerances; a gradient of zeros is one of zeros."""
    assert abs(one.loss - many.loss) <= LOSS_TOLERANCE, (one.loss, many.loss)
    assert one.flops == many.flops
    for first, second in zip(_grads(one), _grads(many), strict=True):
        assert (first - second).norm() <= GRADIENT_TOLERANCE * first.norm(), (first - second).abs().max()


def _grads(step: BodyStep) -> list[Tensor]:
    assert step.hidden_grad is not None
    return [step.hidden_grad, *(grad for grad in step.grads if grad is not None)]


def main() -> None:
    """The cases are a JSON list of (folder with a model and its data, way, tables of settings)."""
    torch.set_num_threads(1)
    launched = launch()
    assert launched is not None
    with Ranks(launched, store_of(launched), 60.0, "cpu") as ranks:
        for folder, way, tables in json.loads(sys.argv[1]):
            compare(ranks, Path(folder), way, tables)
            if ranks.rank == 0:
                print(folder, way, flush=True)


main()
