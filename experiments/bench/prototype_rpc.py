"""The bare split over PyTorch RPC: the same tensors in both directions, without a protocol."""

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

from experiments.bench.interleaved import Rest
from experiments.bench.prototype import BodyTrainer, play
from experiments.bench.setting import Setting
from splitfl.core.allocator import keep_freed_memory
from splitfl.transport.base.interfaces import interface_of

_TIMEOUT_S = 600.0
_trainer: dict[str, BodyTrainer] = {}  # RPC calls module functions


@dataclass(frozen=True, kw_only=True)
class PrototypeRpc:
    """A contestant: the head in this process, the body in another.

    `transports` and `channels` are TensorPipe's; the product uses TCP.
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
            loss, grad_BTD = rpc.rpc_sync("server", _learn, args=tensors, timeout=_TIMEOUT_S)
            return loss, grad_BTD.to(hidden_BTD.device)

        play(setting, blocks, rest, learn)
        rpc.shutdown()
        server.join()

    def enter(self, name: str, rank: int, rendezvous: Path) -> None:
        """Joins the RPC group with a file as rendezvous."""
        os.environ["TP_SOCKET_IFNAME"] = os.environ["GLOO_SOCKET_IFNAME"] = interface_of("127.0.0.1")
        options = rpc.TensorPipeRpcBackendOptions(
            init_method=rendezvous.as_uri(),
            rpc_timeout=_TIMEOUT_S,
            _transports=list(self.transports),
            _channels=list(self.channels),
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            rpc.init_rpc(name, rank=rank, world_size=2, rpc_backend_options=options)  # type: ignore[no-untyped-call]


def _serve(prototype: PrototypeRpc, setting: Setting, rendezvous: Path) -> None:
    torch.set_num_threads(1)
    if prototype.keeps_memory:
        keep_freed_memory()
    _trainer["body"] = BodyTrainer(setting)
    prototype.enter("server", 0, rendezvous)
    rpc.shutdown()


def _learn(hidden_BTD: Tensor, labels_BT: Tensor) -> tuple[float, Tensor]:
    """Runs in the body's process."""
    loss, grad_BTD = _trainer["body"].learn(hidden_BTD, labels_BT)
    return loss, grad_BTD.cpu()
