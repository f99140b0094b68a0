"""FLOPs of a training step of a piece, computed from its shapes.

Only matrix products are counted, as usual (Kaplan et al., 2020, section 2.1; torch's
FlopCounterMode): a product of (m, k) and (k, n) takes 2 m k n. A linear layer takes one product
forward, one backward if its input needs a gradient, and one if its weight does.
A quantised weight costs the same products; its dequantisation is not counted.
Attention takes two products with T x T scores forward, without savings by masks, and up to
four backward; recomputation of the scores in fused kernels is not counted. Of a block's experts
those are counted that a token is sent to.
"""

# B batch, T tokens

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from transformers import PretrainedConfig

from splitfl.accounting.decoder_flops import count_decoder
from splitfl.accounting.image_flops import image_flops
from splitfl.accounting.state_space import scan_flops
from splitfl.adapters.inject import name_in_whole
from splitfl.adapters.registry import ADAPTERS, role_of
from splitfl.models.cut import Piece, linears
from splitfl.models.families import CAUSAL_LM, SEQ2SEQ_LM, TOKEN_CLASSIFICATION
from splitfl.models.quantised import QuantisedLinear, num_weights

_PARALLEL = ("use_parallel_residual", "parallel_attn", "new_decoder_architecture")
"""Fields of a configuration by which the feed-forward part of a block reads the input of attention."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOPs of one training step of a piece."""

    forward_flops: float
    backward_flops: float

    @property
    def step_flops(self) -> float:
        """Forward and backward together."""
        return self.forward_flops + self.backward_flops


def cost(piece: Piece, batch: int, tokens: int, answers: int = 0, *, gradient_to_input: bool = True) -> Cost:
    """The cost of one step on (B, T) tokens; an image has a token per patch, and its class token.

    A decoder after an encoder of T tokens computes (B, `answers`) tokens.

    For models with feature maps, T is ignored and the model's image size is used.
    `gradient_to_input`: a piece that is not the first computes the gradient of its input.
    """
    if piece.family.hands_pictures:
        forward, backward = image_flops(piece, batch, flows=gradient_to_input and not piece.is_first)
        return Cost(forward_flops=forward, backward_flops=backward)
    counter = _Counter(piece, batch, tokens, answers, flows=gradient_to_input and not piece.is_first)
    if piece.is_first:
        counter.below()
    for block in piece.own_blocks:
        counter.block(block)
    if piece.is_last:
        counter.above()
    return Cost(forward_flops=float(counter.forward), backward_flops=float(counter.backward))


def answers_in(piece: Piece, labels: Tensor) -> int:
    """The tokens per answer, padding included, for a model with a decoder after its encoder; else 0."""
    return labels.shape[1] if piece.kind == SEQ2SEQ_LM else 0


class _Counter:
    """Visits the modules of a piece from input to output; `flows`: the activation there needs a gradient."""

    def __init__(self, piece: Piece, batch: int, tokens: int, answers: int = 0, *, flows: bool) -> None:
        self.piece, self.batch, self.tokens, self.flows = piece, batch, tokens, flows
        self.answers = answers
        self.forward = self.backward = 0
        self.adapters = {
            piece.model.get_submodule(name): ADAPTERS[kind] for name, kind in piece.adapters.items()
        }

    def below(self) -> None:
        """Patch embeddings and OPT's projection; token embeddings are lookups without products."""
        for path in self.piece.family.before:
            part = _find(self.piece.base, path)
            for module in part.modules() if part is not None else ():
                if isinstance(module, nn.Conv2d):
                    self._product(module, self.batch * (self.tokens - self.piece.family.has_class_token))
            if part is not None:
                self._linears_of(part, self.batch * self.tokens)
            self.flows = self.flows or _is_trained(part)
        for path in self.piece.family.with_first:
            part = _find(self.piece.base, path)
            for module in part.modules() if part is not None else ():
                if isinstance(module, nn.Conv1d):
                    self._product(module, self.batch * self.tokens)

    def block(self, block: nn.Module) -> None:
        """Projections, attention and feed-forward, backward only where a gradient is needed."""
        flows_in = self.flows
        wants = self._branches(block)
        config = self.piece.block_config
        if hasattr(config, "state_size"):
            self._scan(block, flows=any(wants.values()))
        else:
            self._attention([wants[read] for read in self.piece.family.reads])
        if positions := _num_positions(config):
            self._positions(block, positions, wants)
        self.flows = flows_in or any(wants.values())
        self._experts(block)
        self.flows = self.flows or _is_trained(block)

    def _branches(self, block: nn.Module) -> dict[str, bool]:
        """The linear modules of a block; returns whether the output of each branch needs a gradient."""
        flows_in, reads, config = (
            self.flows or _trains_norm(block),
            self.piece.family.reads,
            self.piece.block_config,
        )
        is_parallel = self.piece.family.is_parallel or any(getattr(config, key, False) for key in _PARALLEL)
        wants = dict.fromkeys((*reads, "beside", "after"), flows_in)
        branches = [
            (next((read for read in reads if f".{read}" in f".{name}"), "after"), name, module)
            for name, module in _linears(block)
            if not _is_of_positions(name)
        ]
        begun: dict[str, str] = {}
        # Phi-3 lists its output projection first
        for branch, name, module in sorted(branches, key=lambda one: one[0] == "after"):
            if is_parallel and name.startswith("mlp."):
                branch = "beside"
            self.flows = any(wants.values()) if branch == "after" else wants[branch]
            if branch in reads:  # LoRA's A reads the block's input too, B the output of A
                projection = next(part for part in name.split(".") if part.startswith(branch))
                is_chained = begun.setdefault(branch, projection) != projection and wants[branch]
                is_second = role_of(name_in_whole(f"{name}.weight")) == "second"
                self.flows = flows_in or is_chained or is_second
            self.linear(block, name, module, self.batch * self.tokens)
            wants[branch] |= self.flows
        return wants

    def above(self) -> None:
        """Pooler, final projection and task head, on every token or on one token per sequence."""
        base = self.piece.base
        is_per_token = self.piece.kind in (CAUSAL_LM, TOKEN_CLASSIFICATION)
        every = is_per_token or self.piece.family.pools_last
        parts = [(path, _find(base, path)) for path in self.piece.family.after]
        parts += self.piece.top
        for path, part in parts:
            if path and path == self.piece.family.decoder:
                count_decoder(self, self.answers)
                self.tokens, every = self.answers, True
                continue
            rows = self.batch * (self.tokens if every and path != "pooler" else 1)
            if part is not None:
                self._linears_of(part, rows)
            self.flows = self.flows or _is_trained(part)

    def _linears_of(self, part: nn.Module, rows: int) -> None:
        for name, module in _linears(part):
            self.linear(part, name, module, rows)

    def linear(self, part: nn.Module, name: str, module: nn.Module, rows: int) -> None:
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
        config = self.piece.block_config
        heads = config.num_attention_heads
        named = (getattr(config, name, None) for name in ("head_dim", "d_kv"))
        width = next(filter(None, named), config.hidden_size // heads)
        products = 2 * self.batch * self.tokens**2 * heads
        scores = products * (getattr(config, "qk_head_dim", None) or width)
        values = products * (getattr(config, "v_head_dim", None) or width)
        query, key, value = (*wants, wants[-1], wants[-1])[:3]
        self.forward += scores + values
        self.backward += scores * (int(query) + int(key)) + values * (int(query or key) + int(value))

    def _scan(self, block: nn.Module, *, flows: bool) -> None:
        """The convolution and the scan of a state space."""
        scanned = scan_flops(self.piece.block_config, self.batch, self.tokens)
        self.forward += scanned
        self.backward += 2 * scanned * int(flows)
        for module in block.modules():
            if isinstance(module, nn.Conv1d):
                self.flows = flows
                self._product(module, self.batch * (self.tokens + module.kernel_size[0] - 1))

    def _experts(self, block: nn.Module) -> None:
        """Routers, and the stacked weights of experts, of which each token is computed by a few."""
        tokens, chosen = self.batch * self.tokens, getattr(self.piece.block_config, "num_experts_per_tok", 0)
        for module in block.modules() if chosen else ():
            for name, value in module.named_parameters(recurse=False):
                is_router = name == "weight" and value.ndim == 2 and not isinstance(module, nn.Linear)
                if is_router or value.ndim == 3:
                    flops = 2 * tokens * (value.numel() if is_router else chosen * value[0].numel())
                    self.forward += flops
                    self.backward += flops * (int(self.flows) + int(value.requires_grad))

    def _positions(self, block: nn.Module, positions: int, wants: Mapping[str, bool]) -> None:
        """DeBERTa's projections of its relative positions, and their products with queries and keys."""
        config, counter = self.piece.block_config, _Counter(self.piece, 1, positions, flows=False)
        is_shared = getattr(config, "share_att_key", False)
        for kind, content, position in (("c2p", "query", "key"), ("p2c", "key", "query")):
            is_used = kind in config.pos_att_type
            counter.flows = False
            projection = f"{position}_proj" if is_shared else f"pos_{position}_proj"
            for name, module in _linears(block) if is_used or is_shared else ():
                if f".{projection}." in f".{name}.":
                    counter.linear(block, name, module, positions)
            if is_used:
                product = 2 * self.batch * self.tokens * positions * config.hidden_size
                self.forward += product
                self.backward += product * (int(wants[f"{content}_proj"]) + int(counter.flows))
        self.forward += counter.forward
        self.backward += counter.backward


def _num_positions(config: PretrainedConfig) -> int:
    """The number of DeBERTa's relative positions, 0 for models without them."""
    if not getattr(config, "relative_attention", False):
        return 0
    spans = (getattr(config, "position_buckets", -1), config.max_relative_positions)
    return 2 * next((span for span in spans if span > 0), config.max_position_embeddings)


def _is_of_positions(name: str) -> bool:
    """Whether a linear module of a block reads relative positions alone."""
    return ".pos_key_proj" in name or ".pos_query_proj" in name


def _linears(module: nn.Module) -> list[tuple[str, nn.Module]]:
    return [(name, module.get_submodule(name)) for name in linears(module)]


def _find(base: nn.Module, path: str) -> nn.Module | None:
    parent, _, name = path.rpartition(".")
    found = getattr(base.get_submodule(parent), name, None)
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
