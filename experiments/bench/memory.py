"""A client's peak memory at cut 1 of a twelve-block model, over that of an unsplit process.

Both are fresh processes that run one training step. Counted is the peak resident memory above
that after importing the libraries; on CUDA, the peak allocated device memory.
"""

import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

import torch
from transformers.models.gpt2 import modeling_gpt2

from experiments.bench.baselines.unsplit import adamw, adapted_model, batches_of, train_step
from experiments.bench.fresh import Fresh, Hand
from experiments.bench.ratio import Figure, at_most
from experiments.bench.setting import Setting
from splitfl.client.client import ClientNode
from splitfl.client.loop import run_client
from splitfl.core.allocator import forget_peak, keep_freed_memory, peak_resident_bytes, resident_bytes
from splitfl.core.messages import Leave
from splitfl.server.run import Run
from splitfl.server.session_router import SessionRouter
from splitfl.setup.experiment import Experiment

_PROCESSES = {"unsplit": False, "client": True, "unsplit-keeping": True, "client-as-it-comes": False}
"""The measured processes, and whether each keeps freed memory, as the product does."""


def memory(setting: Setting, progress: Callable[[str], None]) -> list[Figure]:
    """The memory of a client that holds the first of twelve blocks."""
    deep = replace(setting, folder=setting.folder / "deep", blocks=12, cut=1, steps=1).prepare()
    peaks: dict[str, float] = {}
    for name, keeps in list(_PROCESSES.items())[: 2 if setting.is_quick else None]:
        progress(f"memory of {name}")
        measure = _unsplit if name.startswith("unsplit") else _client
        with Fresh(deep.folder / f"{name}.log", measure, deep, keeps) as process:
            peaks[name] = process.take()
            process.go()

    def figure(what: str, one: str, other: str) -> Figure:
        return Figure(what=f"peak memory, {what}", ratios=(peaks[one] / peaks[other],))

    figures = [replace(figure("client / unsplit", "client", "unsplit"), target=at_most(0.35))]
    if not setting.is_quick:
        figures += [
            figure("client / unsplit*", "client", "unsplit-keeping"),
            figure("client without the allocator setting / unsplit", "client-as-it-comes", "unsplit"),
        ]
    return figures


class _Meter:
    """Peak memory since construction; imports the libraries' lazy parts before."""

    def __init__(self, setting: Setting, keeps: bool) -> None:
        assert modeling_gpt2.GPT2Model is not None
        torch.set_num_threads(1)
        if keeps:
            keep_freed_memory()
        self._is_cuda = setting.device != "cpu"
        forget_peak()
        self._base_bytes = resident_bytes()

    def peak_bytes(self) -> float:
        if self._is_cuda:
            return float(torch.cuda.max_memory_allocated())
        return float(peak_resident_bytes() - self._base_bytes)


def _unsplit(hand: Hand, setting: Setting, keeps: bool) -> None:
    meter = _Meter(setting, keeps)
    model = adapted_model(setting).train()
    train_step(model, adamw(model, setting), batches_of(setting, 1)[0])
    hand(meter.peak_bytes())


def _client(hand: Hand, setting: Setting, keeps: bool) -> None:
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=_serve, args=(setting, theirs), daemon=True)
    server.start()
    assert ours.recv_bytes() == b"ready"
    meter = _Meter(setting, keeps)
    experiment = Experiment.of(setting.config(rounds=1))
    node = ClientNode.of(experiment, 0)
    run_client(node, _Pipe(ours), 1, Leave, lambda round_index, message: None)
    hand(meter.peak_bytes())
    server.join()


def _serve(setting: Setting, connection: "Connection[Any, Any]") -> None:
    """The server's process; serves one client until the run ends."""
    torch.set_num_threads(1)
    with Run(Experiment.of(setting.config(rounds=1)), None, _NoWatcher()) as run:
        router = SessionRouter()
        router.connect(run.server_loop)
        connection.send_bytes(b"ready")
        while not run.is_over:
            router.handle(0, connection.recv_bytes(), connection.send_bytes)


class _Pipe:
    def __init__(self, connection: "Connection[Any, Any]") -> None:
        self._connection = connection

    def request(self, frame: bytes) -> bytes:
        """See Connection."""
        self._connection.send_bytes(frame)
        return self._connection.recv_bytes()


class _NoWatcher:
    """Ignores all notifications."""

    def stepped(self, round_index: int, client: int, steps: int) -> None:
        """See Screen."""

    def measured(self, row: Any) -> None:
        """See Screen."""
