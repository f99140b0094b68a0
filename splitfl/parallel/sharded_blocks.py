"""`fsdp`: every rank computes the same rows, and keeps a share of each block's frozen weights.

The trained tensors are whole on every rank, and so are their gradients: no sum is over ranks, so the results
have the bits of one device.
"""

import dataclasses

from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from splitfl.core.allocator import return_freed_memory
from splitfl.models.cut import Piece
from splitfl.models.families import LANGUAGE_MODELS
from splitfl.parallel.ranks import Ranks
from splitfl.setup.pieces import PieceLoader


def sharded_body(loader: PieceLoader, ranks: Ranks) -> Piece:
    """The body with sharded blocks; a block is divided as soon as it has been read.

    The output projection of a language model is divided as well, unless it is trained.
    """
    return_freed_memory()
    mesh = init_device_mesh(ranks.device.partition(":")[0], (ranks.size,))

    def shard(module: nn.Module) -> None:
        fully_shard(module.requires_grad_(False), mesh=mesh, reshard_after_forward=True)

    piece = dataclasses.replace(loader, on_block=shard).body()
    if piece.kind in LANGUAGE_MODELS:
        for _, module in piece.top:
            if not any(value.requires_grad for value in module.parameters()):
                shard(module)
    return piece
