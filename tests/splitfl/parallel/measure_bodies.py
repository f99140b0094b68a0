"""Run by torchrun: peak memory of a body that is loaded and takes a step, on several ranks and on one device.

Prints, on rank 0, the peaks of all ranks for each way in bytes, above what the process had before, as JSON.
"""

import ctypes
import dataclasses
import gc
import json
import sys
from pathlib import Path

import torch

from splitfl.config import SHARDS
from splitfl.core.allocator import forget_peak, peak_resident_bytes, resident_bytes
from splitfl.methods.parts.server_model import ServerModel
from splitfl.parallel.launch import launch
from splitfl.parallel.ranks import Ranks, store_of
from splitfl.parallel.server_side import BODIES
from splitfl.setup.experiment import Experiment
from tests.splitfl import toy


def measured(experiment: Experiment, ranks: Ranks, way: str) -> list[int]:
    """The peaks of all ranks; on one device, that of rank 0 alone."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    forget_peak()
    before = resident_bytes()
    if way != "none" or not ranks.rank:
        step(experiment, ranks, way)
    return ranks.gathered(peak_resident_bytes() - before)


def step(experiment: Experiment, ranks: Ranks, way: str) -> None:
    """Loads the body, and computes the gradients of one batch."""
    server = dataclasses.replace(experiment.config.server, shard=way, ranks=1 if way == "none" else 2)
    config = dataclasses.replace(experiment.config, server=server)
    loader = dataclasses.replace(experiment.pieces(server), config=config)
    body = ServerModel.of(loader.body() if way == "none" else BODIES[way](loader, ranks), config)
    batch = experiment.batches(0).batch(0)
    width = body.piece.block_config.hidden_size
    hidden_BTD = torch.ones(*batch.shape[:2], width)
    context = body.piece.context_of(batch.inputs)
    body.compute(0, hidden_BTD, context, batch.labels, wants_hidden_grad=True)


def main() -> None:
    """The argument is a folder with a model and its data."""
    torch.set_num_threads(1)
    launched = launch()
    assert launched is not None
    folder = Path(sys.argv[1])
    tables = {"task": {"name": "lm"}, "federation": {"partition": "iid"}, "train": {"batch_size": 1}}
    experiment = Experiment.of(toy.config(folder, **tables))
    with Ranks(launched, store_of(launched), 120.0, "cpu") as ranks:
        for way in SHARDS[1:]:  # what is imported or cached at first is the same for a model of any size
            step(experiment, ranks, way)
        found = {way: measured(experiment, ranks, way) for way in reversed(SHARDS)}
        if not ranks.rank:
            print(json.dumps(found))


main()
