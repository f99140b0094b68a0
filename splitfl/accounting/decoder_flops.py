"""FLOPs of the decoder of an encoder-decoder, whose blocks also attend to the encoder's states."""

# B batch, T tokens of the encoder, U tokens of the decoder

from collections.abc import Mapping
from typing import Protocol

from torch import nn

from splitfl.adapters.inject import name_in_whole
from splitfl.adapters.registry import role_of
from splitfl.models.cut import Piece, linears


class Counter(Protocol):
    """The sums so far; `flows`: the activation there needs a gradient."""

    piece: Piece
    batch: int
    tokens: int
    forward: int
    backward: int
    flows: bool

    def linear(self, part: nn.Module, name: str, module: nn.Module, rows: int) -> None:
        """Counts a linear module of this part, and the adapter around it."""


def count_decoder(counter: Counter, answers: int) -> None:
    """Counts all blocks of the decoder on (B, U) tokens, U being `answers`, after the encoder's states."""
    base, family = counter.piece.base, counter.piece.family
    decoder = base.get_submodule(family.decoder)
    blocks = decoder.get_submodule(family.blocks.rpartition(".")[2])
    states_flow = counter.flows
    counter.flows = any(
        value.requires_grad
        for child in decoder.children()
        if child is not blocks
        for value in child.parameters()
    )
    for block in blocks.children():
        for attention, keys, flows in zip(
            family.attentions_of_decoder,
            (answers, counter.tokens),
            (None, states_flow),
            strict=True,
        ):
            module = next(part for name, part in block.named_modules() if name.endswith(attention))
            _count_attention(counter, module, answers, keys, flows)
        for name, module in _linears(block).items():
            if not any(f".{attention}." in f".{name}" for attention in family.attentions_of_decoder):
                counter.linear(block, name, module, counter.batch * answers)


def _count_attention(
    counter: Counter, attention: nn.Module, queries: int, keys: int, states_flow: bool | None
) -> None:
    """Projections of an attention to `keys` tokens; `states_flow` is None for one to the decoder itself."""
    is_cross, hidden_flows = states_flow is not None, counter.flows
    query, key, value = counter.piece.family.reads
    wants = {}
    for read in (query, key, value):
        flows, rows = (states_flow, keys) if is_cross and read != query else (hidden_flows, queries)
        wants[read] = _count_projection(counter, attention, read, counter.batch * rows, flows=bool(flows))
    config = counter.piece.block_config
    width = getattr(config, "d_kv", None) or config.hidden_size // config.num_attention_heads
    product = 2 * counter.batch * queries * keys * config.num_attention_heads * width
    counter.forward += 2 * product
    counter.backward += product * (
        int(wants[query]) + int(wants[key]) + int(wants[value]) + int(wants[query] or wants[key])
    )
    counter.flows = any(wants.values())
    for name, module in _linears(attention).items():
        if not name.startswith((query, key, value)):
            counter.linear(attention, name, module, counter.batch * queries)
    counter.flows = counter.flows or hidden_flows


def _count_projection(counter: Counter, attention: nn.Module, read: str, rows: int, *, flows: bool) -> bool:
    """The projection of this name with its adapter; returns whether its output needs a gradient."""
    wanted = flows
    for name, module in _linears(attention).items():
        if name.startswith(read):
            counter.flows = flows or role_of(name_in_whole(f"{name}.weight")) == "second"
            counter.linear(attention, name, module, rows)
            wanted |= counter.flows
    return wanted


def _linears(module: nn.Module) -> Mapping[str, nn.Module]:
    return {name: module.get_submodule(name) for name in linears(module)}
