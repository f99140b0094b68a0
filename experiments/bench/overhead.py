"""The framework's overhead for each method: a run in one process over a plain loop of the same mathematics.

The run includes the client's and the server's objects, frames in both directions, service order, clocks,
ledger, events and replays. The loops (`loops`, `forward_loops`) share the model's pieces and the names of
perturbations with it, and have one client, so that nothing is averaged. Rounds of both are interleaved;
losses and trained tensors must be bitwise equal before a ratio counts. The ratio is of CPU time, which
background load affects less than wall time.
"""

import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final, Self

import torch
from torch import Tensor

from experiments.bench.baselines import forward_loops, loops
from experiments.bench.baselines.loop_inputs import LoopInputs, Rounds
from experiments.bench.fresh import BenchError, Fresh, Hand
from experiments.bench.ratio import Figure, at_most, pair_ratios
from experiments.bench.setting import Setting
from splitfl.accounting.ledger import Ledger
from splitfl.client.client import ClientNode
from splitfl.config import RunConfig, key_types
from splitfl.core.allocator import keep_freed_memory
from splitfl.core.events import Events
from splitfl.methods.registry import METHODS
from splitfl.methods.settings import without_unread
from splitfl.runtime.simulate import run_inproc
from splitfl.server.assemble import server_loop_of
from splitfl.server.protocols import RoundEnd
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import as_dict, from_dict
from splitfl.setup.shared_clients import SharedClients

LOOPS: Final[Mapping[str, Callable[[LoopInputs], Rounds]]] = {
    "sfl-v2": loops.sfl,
    "sfl-v1": loops.sfl,
    "frozen": loops.frozen,
    "ushape": loops.ushape,
    "cse-fsl": loops.cse_fsl,
    "fsl-sage": loops.fsl_sage,
    "hybrid": forward_loops.hybrid,
    "hosl": forward_loops.hosl,
    "heron": forward_loops.heron,
    "mu-splitfed": forward_loops.mu_splitfed,
    "fedlora": loops.fedlora,
    "decomfl": forward_loops.decomfl,
    "hiso": forward_loops.hiso,
    "fedkseed": forward_loops.fedkseed,
    "spry": forward_loops.spry,
    "diloco": loops.diloco,
    "dp": loops.data_parallel,
}
"""Plain loops by method; methods without one are not measured."""

_METHOD: Final = {
    "perturbations": 2,
    "auxiliary_blocks": 1,
    "align_passes": 1,
    "align_batches": 2,
    "server_steps": 2,
    "pool": 64,
}


def overhead(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """CPU time of each method over its loop. Raises BenchError if their results differ in a bit."""
    wide = replace(setting, folder=setting.folder / "overhead", blocks=4, cut=2, vocabulary=2048, steps=2)
    wide = wide.prepare()
    figures = []
    with Fresh(wide.folder / "overhead.log", compare, wide) as process:
        for name in LOOPS:
            progress(name)
            product_s, by_hand_s = process.take()
            process.go()
            ratios = pair_ratios(product_s, by_hand_s)
            figures.append(Figure(what=f"CPU time, {name} / plain loop", ratios=ratios, target=at_most(1.05)))
    return figures


def compare(hand: Hand, setting: Setting) -> None:
    """Sends, method by method, the CPU seconds of each round but the first, of the run and of the loop."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        for name in LOOPS:
            hand(seconds(settings(setting, name), Path(folder)))


def settings(setting: Setting, name: str) -> RunConfig:
    """A run of this method with one client that trains every tensor in every round."""
    table = as_dict(setting.config(rounds=setting.sweeps + 1))
    keys = key_types(METHODS[name].settings)
    table["method"] = {"name": name, **{key: value for key, value in _METHOD.items() if key in keys}}
    table["partition"]["tail_blocks"] = 1
    return from_dict(as_dict(without_unread(from_dict(table, METHODS[name].needs))), METHODS[name].needs)


def seconds(config: RunConfig, folder: Path) -> tuple[list[float], list[float]]:
    """CPU seconds of each round of the product and of its loop, interleaved, after a warm-up round.

    Raises BenchError if losses or trained tensors differ in a bit.
    """
    experiment = Experiment.of(config)
    inputs = LoopInputs.of(experiment)
    by_hand = LOOPS[config.method.name](inputs)
    losses: list[float] = []
    with _Product(experiment, folder / f"{config.method.name}.jsonl") as product:
        taken: tuple[list[float], list[float]] = ([], [])
        for at in range(config.federation.rounds):
            contestants = (lambda at=at: product.round(at), lambda: losses.extend(next(by_hand)))
            for index in (0, 1) if at % 2 else (1, 0):  # the order alternates
                began_s = time.process_time()
                contestants[index]()
                taken[index].append(time.process_time() - began_s)
        product.must_equal(losses, inputs.trained())
    return taken[0][1:], taken[1][1:]


class _Product:
    """A run in this process, one round at a time, with its events written to a file."""

    def __init__(self, experiment: Experiment, path: Path) -> None:
        self._config = experiment.config
        self._path = path
        self._events = Events(path)
        self._server = experiment.server_method()
        self._server_loop = server_loop_of(experiment, self._server, Ledger(), self._events, self)
        self._nodes = [ClientNode.of(experiment, 0, None, SharedClients(experiment).method)]

    def round(self, round_index: int) -> None:
        """Runs this round; the clients' leave afterwards has no effect on the next."""
        federation = replace(self._config.federation, rounds=round_index + 1)
        run_inproc(replace(self._config, federation=federation), self._nodes, self._server_loop, round_index)

    def must_equal(self, losses: Sequence[float], trained: Mapping[str, Tensor]) -> None:
        """Raises BenchError if losses or tensors differ from those of the loop."""
        self._events.__exit__(None, None, None)
        rows = map(json.loads, self._path.read_text().splitlines())
        product_losses, name = (
            [row["loss"] for row in rows if row["event"] == "step"],
            self._config.method.name,
        )
        if product_losses != list(losses):
            raise BenchError(
                f"{name} and its plain loop have different losses: {product_losses} and {list(losses)}"
            )
        for tensor, value in self._server.trained().items():
            if not torch.equal(value, trained[tensor]):
                raise BenchError(f"{name} and its plain loop trained {tensor} to different values")

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Watcher: no screen."""

    def all_began(self, round_index: int) -> None:
        """See Watcher: no checkpoint."""

    def ended(self, end: RoundEnd) -> None:
        """See Watcher."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self._events.__exit__(None, None, None)
