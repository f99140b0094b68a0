"""What a method's machinery costs: the run in one process beside a loop of the same mathematics by hand.

The machinery is all there is in a run: the client's and the server's objects, frames both ways, turns,
clocks, ledger and events, replays. The loops (`loops`, `forward_loops`) share with it the pieces of the model
and the names of directions, and have one client, so that nothing is averaged. Both play the same rounds in
turn; before a ratio counts, losses and trained tensors must be the same to the last bit. The ratio is of CPU
time, which a busy neighbour lengthens less than the clock on the wall.
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

from experiments.bench import forward_loops, loops
from experiments.bench.fresh import BenchError, Fresh, Hand
from experiments.bench.own import Own, Rounds
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

LOOPS: Final[Mapping[str, Callable[[Own], Rounds]]] = {
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
}
"""The same mathematics by hand, for the methods that have such a loop; the others are not measured."""

_METHOD: Final = {
    "perturbations": 2,
    "auxiliary_blocks": 1,
    "align_passes": 1,
    "align_batches": 2,
    "server_steps": 2,
    "pool": 64,
}


def overhead(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Each method over its loop; BenchError where they differ in a bit."""
    wide = replace(setting, folder=setting.folder / "overhead", blocks=4, cut=2, vocabulary=2048, steps=2)
    wide = wide.prepare()
    figures = []
    with Fresh(wide.folder / "overhead.log", compare, wide) as process:
        for name in LOOPS:
            progress(name)
            product_s, by_hand_s = process.take()
            process.go()
            ratios = pair_ratios(product_s, by_hand_s)
            figures.append(Figure(what=f"CPU time, {name} / by hand", ratios=ratios, target=at_most(1.05)))
    return figures


def compare(hand: Hand, setting: Setting) -> None:
    """Hands over, method by method, the seconds that each round took either way, but for the first."""
    torch.set_num_threads(1)
    keep_freed_memory()
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        for name in LOOPS:
            hand(seconds(settings(setting, name), Path(folder)))


def settings(setting: Setting, name: str) -> RunConfig:
    """A run of this method with one client, whose every tensor is trained in every round."""
    table = as_dict(setting.config(rounds=setting.sweeps + 1))
    keys = key_types(METHODS[name].settings)
    table["method"] = {"name": name, **{key: value for key, value in _METHOD.items() if key in keys}}
    table["partition"]["tail_blocks"] = 1
    return from_dict(as_dict(without_unread(from_dict(table, METHODS[name].needs))), METHODS[name].needs)


def seconds(config: RunConfig, folder: Path) -> tuple[list[float], list[float]]:
    """The CPU time of each round of the product and of its loop, taken in turn; the first warms up.

    Raises BenchError where they come to different bits.
    """
    site = Experiment.of(config)
    own = Own.of(site)
    by_hand = LOOPS[config.method.name](own)
    losses: list[float] = []
    with _Product(site, folder / f"{config.method.name}.jsonl") as product:
        taken: tuple[list[float], list[float]] = ([], [])
        for at in range(config.federation.rounds):
            players = (lambda at=at: product.round(at), lambda: losses.extend(next(by_hand)))
            for who in (0, 1) if at % 2 else (1, 0):  # nobody always comes after the other
                began_s = time.process_time()
                players[who]()
                taken[who].append(time.process_time() - began_s)
        product.must_equal(losses, own.trained())
    return taken[0][1:], taken[1][1:]


class _Product:
    """A run in this process, one round at a time; its events go to a file as they do in any run."""

    def __init__(self, site: Experiment, path: Path) -> None:
        self._config = site.config
        self._path = path
        self._events = Events(path)
        self._server = site.server_method()
        self._server_loop = server_loop_of(site, self._server, Ledger(), self._events, self)
        self._nodes = [ClientNode.of(site, 0)]

    def round(self, round_index: int) -> None:
        """Plays this round; taking leave afterwards changes nothing."""
        federation = replace(self._config.federation, rounds=round_index + 1)
        run_inproc(replace(self._config, federation=federation), self._nodes, self._server_loop, round_index)

    def must_equal(self, losses: Sequence[float], trained: Mapping[str, Tensor]) -> None:
        """BenchError where another way to the same came to anything else."""
        self._events.__exit__(None, None, None)
        rows = map(json.loads, self._path.read_text().splitlines())
        own, name = [row["loss"] for row in rows if row["event"] == "step"], self._config.method.name
        if own != list(losses):
            raise BenchError(f"{name} has other losses than its loop by hand: {own} and {list(losses)}")
        for tensor, value in self._server.trained().items():
            if not torch.equal(value, trained[tensor]):
                raise BenchError(f"{name} has learnt another {tensor} than its loop by hand")

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Watcher: nobody looks on."""

    def all_began(self, round_index: int) -> None:
        """See Watcher: nothing is kept."""

    def ended(self, end: RoundEnd) -> None:
        """See Watcher."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *what: object) -> None:
        self._events.__exit__(None, None, None)
