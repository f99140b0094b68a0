"""The bare split over PyTorch RPC: the same tensors there and back, and nothing else."""

# B batch, T tokens, D hidden

import multiprocessing
import os
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.distributed import rpc

from experiments.bench.contest import Rest
from experiments.bench.prototype import Teacher, play
from experiments.bench.setting import Setting
from splitfl.core.allocator import keep_freed_memory
from splitfl.transport.base.interfaces import interface_of

_LONG_S = 600.0
_teacher: dict[str, Teacher] = {}  # RPC calls module functions


@dataclass(frozen=True, kw_only=True)
class PrototypeRpc:
    """A contestant: the head here, the body in a process of its own.

    `transports` and `channels` are TensorPipe's; TCP is what the product takes.
    """

    keeps_memory: bool = False
    transports: tuple[str, ...] = ("uv",)
    channels: tuple[str, ...] = ("basic",)

    def __call__(self, setting: Setting, blocks: int, rest: Rest) -> None:
        handle, name = tempfile.mkstemp(dir=setting.folder)
        os.close(handle)
        server = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(self, setting, Path(name)), daemon=True
        )
        server.start()
        self.enter("client", 1, Path(name))

        def learn(hidden_BTD: Tensor, labels_BT: Tensor) -> tuple[float, Tensor]:
            tensors = (hidden_BTD.cpu(), labels_BT.cpu())
            loss, grad_BTD = rpc.rpc_sync("server", _learn, args=tensors, timeout=_LONG_S)
            return loss, grad_BTD.to(hidden_BTD.device)

        play(setting, blocks, rest, learn)
        rpc.shutdown()
        server.join()

    def enter(self, name: str, rank: int, meeting: Path) -> None:
        """Joins the other process at a file that both know."""
        os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = interface_of("127.0.0.1")
        options = rpc.TensorPipeRpcBackendOptions(
            init_method=meeting.as_uri(),
            rpc_timeout=_LONG_S,
            _transports=list(self.transports),
            _channels=list(self.channels),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)  # type: ignore[no-untyped-call]


def _serve(road: PrototypeRpc, setting: Setting, meeting: Path) -> None:
    torch.set_num_threads(1)
    if road.keeps_memory:
        keep_freed_memory()
    _teacher["body"] = Teacher(setting)
    road.enter("server", 0, meeting)
    rpc.shutdown()


def _learn(hidden_BTD: Tensor, labels_BT: Tensor) -> tuple[float, Tensor]:
    """Runs in the body's process."""
    loss, grad_BTD = _teacher["body"].learn(hidden_BTD, labels_BT)
    return loss, grad_BTD.cpu()
