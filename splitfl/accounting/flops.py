"""FLOPs of a training step of a piece, computed from its shapes.

Only matrix products are counted, as usual (Kaplan et al., 2020, section 2.1; torch's
FlopCounterMode): a product of (m, k) and (k, n) takes 2 m k n. A linear layer takes one product
forward, one backward if its input needs a gradient, and one if its weight does.
A quantised weight costs the same products; its dequantisation is not counted.
Attention takes two products with T x T scores forward, without savings by masks, and up to
four backward; recomputation of the scores in fused kernels is not counted.
"""

# B batch, T tokens

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn

from splitfl.accounting.image_flops import image_flops
from splitfl.adapters.inject import name_in_whole
from splitfl.adapters.registry import ADAPTERS, role_of
from splitfl.models.cut import Piece, linears
from splitfl.models.families import CAUSAL_LM
from splitfl.models.quantised import QuantisedLinear, num_weights


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs of one training step of a piece."""

    forward_flops: float
    backward_flops: float

    @property
    def step_flops(self) -> float:
        """Forward and backward together."""
        return self.forward_flops + self.backward_flops


def cost(piece: Piece, batch: int, tokens: int, *, gradient_to_input: bool = True) -> Cost:
    """The cost of one step on (B, T) tokens; an image has one token per patch plus one.

    For models with feature maps, T is ignored and the model's image size is used.
    `gradient_to_input`: a piece that is not the first computes the gradient of its input.
    """
    if piece.family.hands_pictures:
        forward, backward = image_flops(piece, batch, flows=gradient_to_input and not piece.is_first)
        return Cost(forward_flops=forward, backward_flops=backward)
    counter = _Counter(piece, batch, tokens, flows=gradient_to_input and not piece.is_first)
    if piece.is_first:
        counter.below()
    for block in counter.blocks():
        counter.block(block)
    if piece.is_last:
        counter.above()
    return Cost(forward_flops=float(counter.forward), backward_flops=float(counter.backward))


class _Counter:
    """Visits the modules of a piece from input to output; `flows`: the activation there needs a gradient."""

    def __init__(self, piece: Piece, batch: int, tokens: int, *, flows: bool) -> None:
        self.piece, self.batch, self.tokens, self.flows = piece, batch, tokens, flows
        self.forward = self.backward = 0
        self.adapters = {
            piece.model.get_submodule(name): ADAPTERS[kind] for name, kind in piece.adapters.items()
        }

    def blocks(self) -> Iterator[nn.Module]:
        modules = self.piece.base.get_submodule(self.piece.family.blocks)
        return (modules.get_submodule(str(index)) for index in self.piece.blocks)

    def below(self) -> None:
        """Patch embeddings and OPT's projection; token embeddings are lookups without products."""
        for path in self.piece.family.before:
            part = _find(self.piece.base, path)
            for module in part.modules() if part is not None else ():
                if isinstance(module, nn.Conv2d):
                    self._product(module, self.batch * (self.tokens - 1))
            if part is not None:
                self._linears_of(part, self.batch * self.tokens)
            self.flows = self.flows or _is_trained(part)

    def block(self, block: nn.Module) -> None:
        """Projections, attention and feed-forward, backward only where a gradient is needed."""
        flows_in, reads = self.flows or _trains_norm(block), self.piece.family.reads
        is_parallel = self.piece.family.is_parallel or getattr(
            self.piece.model.config, "use_parallel_residual", False
        )
        wants = dict.fromkeys((*reads, "beside", "after"), flows_in)
        branches = [
            (next((read for read in reads if f".{read}." in f".{name}."), "after"), name, module)
            for name, module in _linears(block)
        ]
        for branch, name, module in sorted(
            branches, key=lambda one: one[0] == "after"
        ):  # Phi-3 lists o first
            if is_parallel and name.startswith("mlp."):
                branch = "beside"
            self.flows = any(wants.values()) if branch == "after" else wants[branch]
            if branch in reads:  # LoRA's A reads the block's input too, B the output of A
                self.flows = flows_in or role_of(name_in_whole(f"{name}.weight")) == "second"
            self._linear(block, name, module, self.batch * self.tokens)
            wants[branch] |= self.flows
        self._attention([wants[read] for read in reads])
        self.flows = flows_in or any(wants.values()) or _is_trained(block)

    def above(self) -> None:
        """Pooler, final projection and task head, on every token or on one token per sequence."""
        base, whole = self.piece.base, self.piece.model
        every = self.piece.kind == CAUSAL_LM or self.piece.family.pools_last
        parts = [(path, _find(base, path)) for path in self.piece.family.after]
        parts += [(name, child) for name, child in whole.named_children() if child is not base]
        for path, part in parts:
            rows = self.batch * (self.tokens if every and path != "pooler" else 1)
            if part is not None:
                self._linears_of(part, rows)
            self.flows = self.flows or _is_trained(part)

    def _linears_of(self, part: nn.Module, rows: int) -> None:
        for name, module in _linears(part):
            self._linear(part, name, module, rows)

    def _linear(self, part: nn.Module, name: str, module: nn.Module, rows: int) -> None:
        """A linear module of this part, and the adapter around it."""
        reaches = self.flows
        self._product(module, rows)
        for adapted in (module, part.get_submodule(name.rpartition(".")[0])):
            self._adapter(adapted, rows, reaches)

    def _product(self, module: nn.Module, rows: int) -> None:
        flops, trains = 2 * rows * num_weights(module), _trains_weight(module)
        self.forward += flops
        self.backward += flops * (int(self.flows) + int(trains))
        self.flows = self.flows or trains or _is_trained(module)

    def _adapter(self, module: nn.Module, rows: int, flows_in: bool) -> None:
        """The cost of an adapter beyond the module's own linear submodules, counted once."""
        kind = self.adapters.pop(module, None)
        if kind is not None and kind.flops is not None:
            forward, backward = kind.flops(module, rows, flows_in)
            self.forward += forward
            self.backward += backward
            self.flows = True

    def _attention(self, wants: list[bool]) -> None:
        config = self.piece.model.config
        heads = config.num_attention_heads
        width = heads * (getattr(config, "head_dim", None) or config.hidden_size // heads)
        product = 2 * self.batch * self.tokens**2 * width
        query, key, value = wants if len(wants) == 3 else wants[:1] * 3
        self.forward += 2 * product
        self.backward += product * (int(query or key) + int(query) + int(key) + int(value))


def _linears(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module.get_submodule(name)) for name in linears(module)]


def _find(base: nn.Module, path: str) -> nn.Module | None:
    parent, _, name = path.rpartition(".")
    found = getattr(base.get_submodule(parent), name)
    assert found is None or isinstance(found, nn.Module)
    return found


def _trains_norm(block: nn.Module) -> bool:
    """Whether a parameter of a block that is in no linear module, adapters included, is trained."""
    inside = {id(value) for _, module in _linears(block) for value in module.parameters()}
    return any(
        value.requires_grad and id(value) not in inside and name.endswith(".bias")
        for name, value in block.named_parameters()
    )


def _trains_weight(module: nn.Module) -> bool:
    return not isinstance(module, QuantisedLinear) and module.get_parameter("weight").requires_grad


def _is_trained(module: nn.Module | None) -> bool:
    return module is not None and any(value.requires_grad for value in module.parameters())
