"""Up to 10,000 clients in one process, 100 of them in each round, with a tiny model.

The model is so small that a plain loop takes a few milliseconds for a client's round: one step of two texts
of 16 tokens. Start-up is the CPU time of reading a further client's data and building it; memory is that of
a client after a round, without its trained tensors and their moments, so it includes its data.
"""

import gc
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import torch

from experiments.bench.baselines.loop_inputs import LoopInputs
from experiments.bench.baselines.loops import sfl
from experiments.bench.fresh import Fresh, Hand
from experiments.bench.ratio import Figure, at_most
from experiments.bench.setting import Setting
from splitfl.accounting.ledger import Ledger
from splitfl.client.client import ClientNode
from splitfl.config import RunConfig
from splitfl.core.allocator import keep_freed_memory, resident_bytes
from splitfl.core.events import Events
from splitfl.federation.selection import Selection
from splitfl.runtime.simulate import run_inproc
from splitfl.server.assemble import server_loop_of
from splitfl.server.protocols import RoundEnd
from splitfl.setup.experiment import Experiment
from splitfl.setup.shared_clients import SharedClients

_MANY: Final = 10_000
_FEW: Final = 1_000
_SELECTED: Final = 100
_ROUNDS: Final = 12
_WARM_UP: Final = 2
_KIB: Final = 1024
_TEXTS_EACH: Final = 2


def simulated_clients(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """Start-up and memory of a client, and CPU time of a client's round, with few and with many clients."""
    part = 50 if setting.is_quick else 1
    few, many, selected = _FEW // part, _MANY // part, _SELECTED // part
    small = replace(
        setting, folder=setting.folder / "simulated", blocks=4, width=128, heads=4, tokens=16, steps=1, cut=1
    )
    small = replace(small, vocabulary=256, batch=_TEXTS_EACH)
    small.prepare(texts=_TEXTS_EACH * many)
    found = {}
    for clients in (few, many):
        progress(f"{clients:,} clients")
        with Fresh(small.folder / f"{clients}.log", _measure, small, clients, selected) as process:
            found[clients] = process.take(1800.0)
            process.go()
    figures = []
    for clients, one in found.items():
        values = {
            "start-up of a client / 1 ms": (one.start_s / 1e-3, at_most(1.0)),
            "idle memory of a client / 1 KiB": (one.idle_bytes / _KIB, at_most(32.0)),
            "trained state of a client / 1 KiB": (one.state_bytes / _KIB, None),
            "CPU time of a client's round / 1 ms": (one.round_s / 1e-3, None),
            "CPU time of a client's round / plain loop": (one.round_s / one.loop_s, at_most(2.0)),
        }
        for what, (ratio, target) in values.items():
            figures.append(Figure(what=f"{clients:,} clients: {what}", ratios=(ratio,), target=target))
    growth = found[many].round_s / found[few].round_s
    what = f"CPU time of a client's round, {many:,} clients / {few:,}"
    return [*figures, Figure(what=what, ratios=(growth,), target=at_most(1.2))]


@dataclass(frozen=True, kw_only=True)
class _Costs:
    """CPU seconds and bytes of one client."""

    start_s: float
    idle_bytes: float
    state_bytes: float
    round_s: float
    loop_s: float


def _measure(hand: Hand, setting: Setting, clients: int, selected: int) -> None:
    """Sends the costs of a client in a run of this number of clients."""
    torch.set_num_threads(1)
    keep_freed_memory()
    config = setting.config(rounds=_ROUNDS, clients=clients)
    limits = replace(config.fault_tolerance, clients_per_round=selected, checkpoint_every=0)
    experiment = Experiment.of(replace(config, fault_tolerance=limits))
    shared = SharedClients(experiment)
    state_bytes = 3 * sum(value.nbytes for value in shared.method(0).state().values())  # and two moments
    start_s = _start_s(shared, min(clients, _FEW))
    loop_s = _loop_s(setting)
    nodes = [ClientNode.of(experiment, client, None, shared.method) for client in range(clients)]
    round_s, idle_bytes = _rounds(experiment, nodes, setting.folder / f"{clients}.jsonl")
    own_bytes = idle_bytes - state_bytes
    hand(
        _Costs(start_s=start_s, idle_bytes=own_bytes, state_bytes=state_bytes, round_s=round_s, loop_s=loop_s)
    )


def _start_s(shared: SharedClients, clients: int) -> float:
    """CPU seconds of reading a client's data and building it."""
    began_s = time.process_time()
    for client in range(clients):
        shared.method(client).state()
    return (time.process_time() - began_s) / clients


def _rounds(experiment: Experiment, nodes: Sequence[ClientNode], events: Path) -> tuple[float, float]:
    """CPU seconds of a client's round, and resident bytes of a client after it.

    Memory grows by the clients that take part for the first time after the first rounds.
    """
    config = experiment.config
    with Events(events) as written:
        server = experiment.server_method()
        ledger = Ledger()
        loop = server_loop_of(experiment, server, ledger, written, _Closing(ledger))
        run_inproc(_until(config, _WARM_UP), nodes, loop)
        gc.collect()
        bytes_before, began_s = resident_bytes(), time.process_time()
        run_inproc(config, nodes, loop, _WARM_UP)
        round_s = time.process_time() - began_s
        gc.collect()
        grown_bytes = resident_bytes() - bytes_before
    served = config.fault_tolerance.clients_per_round * (config.federation.rounds - _WARM_UP)
    further = _taking_part(config, config.federation.rounds) - _taking_part(config, _WARM_UP)
    return round_s / served, grown_bytes / len(further)


def _taking_part(config: RunConfig, rounds: int) -> set[int]:
    """The clients that take part in one of the first rounds."""
    selection = Selection.of(config)
    clients = range(config.federation.clients)
    return {client for at in range(rounds) for client in clients if selection.takes_part(client, at)}


def _until(config: RunConfig, rounds: int) -> RunConfig:
    return replace(config, federation=replace(config.federation, rounds=rounds))


def _loop_s(setting: Setting) -> float:
    """CPU seconds of a round of one client in a plain loop."""
    loop = sfl(LoopInputs.of(Experiment.of(setting.config(rounds=2 * _SELECTED))))
    for _ in range(_SELECTED):
        next(loop)
    began_s = time.process_time()
    for _ in range(_SELECTED):
        next(loop)
    return (time.process_time() - began_s) / _SELECTED


class _Closing:
    """See Watcher: closes the ledger's rounds, as a run does."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def stepped(self, round_index: int, client: int, steps: int) -> None: ...

    def all_began(self, round_index: int) -> None: ...

    def ended(self, end: RoundEnd) -> None:
        self._ledger.close(end.round)
