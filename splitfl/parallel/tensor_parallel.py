"""`tensor`: each rank has a share of each linear module's frozen weights, by transformers' plan of the model.

The trained tensors are whole on every rank; with LoRA's factors a rank computes the part that belongs to its
share of the module. A sum over a module's width is one over ranks, in another order than on one device.

transformers.distributed is not part of the documented interface of transformers: no other module uses it.
"""

import dataclasses
from typing import Any

import torch
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard
from torch.nn import functional
from transformers.distributed.tensor_parallel import apply_tensor_parallelism

from splitfl.adapters.kind import DEFAULT
from splitfl.core.allocator import return_freed_memory
from splitfl.models.checkpoint.source import resolve
from splitfl.models.cut import Piece
from splitfl.models.families import LANGUAGE_MODELS
from splitfl.models.load import read_config
from splitfl.models.tensor_plan import COLUMNS, ROWS, tensor_plan
from splitfl.parallel.ranks import Ranks
from splitfl.setup.pieces import PieceLoader


def tensor_parallel_body(loader: PieceLoader, ranks: Ranks) -> Piece:
    """The body with this rank's share of each divided module; a block is divided as soon as it has been read.

    The output projection of a language model is divided as well, unless it is trained.
    """
    return_freed_memory()
    mesh = init_device_mesh(ranks.device.partition(":")[0], (ranks.size,))
    model = loader.config.model
    plan = tensor_plan(read_config(resolve(model.name), loader.task.kind, model.attention))

    def divide_block(block: nn.Module) -> None:
        for name, style in plan.items():
            _divide(block, name, style, mesh)

    piece = dataclasses.replace(loader, on_block=divide_block).body()
    if piece.kind in LANGUAGE_MODELS:
        for name, module in piece.top:
            if name in piece.model.tp_plan and not any(value.requires_grad for value in module.parameters()):
                _divide(piece.model, name, piece.model.tp_plan[name], mesh)
    for block in piece.own_blocks:
        for name, module in block.named_modules():
            if isinstance(module, LoraLayer) and name in plan:
                _divide_lora(module, plan[name], mesh)
    return piece


def _divide(parent: nn.Module, name: str, style: str, mesh: DeviceMesh) -> None:
    """Replaces a module's parameters by this rank's share of them, without communication."""
    module = parent.get_submodule(name).requires_grad_(False)
    parameters = {f"{name}.{leaf}": style for leaf, _ in module.named_parameters(recurse=False)}
    apply_tensor_parallelism(parent, mesh, {**parameters, name: style})


def _divide_lora(layer: LoraLayer, style: str, mesh: DeviceMesh) -> None:
    """Has each rank compute with the part of a factor that belongs to its share of the adapted module."""
    if style == COLUMNS:
        _compute_by_shares(layer.lora_B[DEFAULT], mesh, Replicate(), Shard(0), Shard(-1))
    elif style == ROWS:
        _compute_by_shares(layer.lora_A[DEFAULT], mesh, Shard(-1), Shard(1), Replicate())


def _compute_by_shares(
    factor: Any, mesh: DeviceMesh, given: Placement, share: Placement, wanted: Placement
) -> None:
    """Changes the forward of a linear module, whose gradient is whole on every rank, as its weight is.

    `given` and `wanted` are the placements of its input and output, `share` that of the weight it uses.
    """

    def forward(x: Tensor) -> Tensor:
        shape = torch.Size((*x.shape[:-1], factor.in_features))
        stride = x.new_empty(shape, device="meta").stride()
        x = DTensor.from_local(x, mesh, [given], run_check=False, shape=shape, stride=stride)
        whole = DTensor.from_local(factor.weight, mesh, [Replicate()], run_check=False)
        output: Any = functional.linear(x, whole.redistribute(placements=[share]))
        local: Tensor = output.redistribute(placements=[wanted]).to_local()
        return local

    factor.forward = forward
