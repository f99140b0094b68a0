"""A range of consecutive blocks of a Hugging Face model as a module that trains exactly as in the whole.

The model's code is not rewritten. A piece is the task model itself, in which every module of
another piece is replaced by a placeholder without weights. The model's own forward thus still
computes masks, rotary embeddings and windows, and every parameter keeps its name in the
unsplit model.
"""

# B batch, T tokens, D hidden

import copy
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from splitfl.core.errors import CutError
from splitfl.models.batch_norms import by_batch, tracked_in
from splitfl.models.checkpoint.checkpoint_file import Entry
from splitfl.models.families import (
    IMAGE_CLASSIFICATION,
    SEQUENCE_CLASSIFICATION,
    base_path,
    block_config,
    check,
    count_blocks,
)
from splitfl.models.feature_maps import as_feature_map, as_tokens
from splitfl.models.inputs import check_inputs, packed_mask
from splitfl.models.placeholders import (
    BlockPlaceholder,
    EmbeddingPlaceholder,
    HiddenInput,
    drop,
    norm_embeddings,
    placeholder_of,
    put,
)
from splitfl.models.training_step import CurrentStep


class Piece(nn.Module):
    """Blocks `first` to `last` - 1 of a task model, with embeddings (first piece) and head (last piece).

    With `first` equal to the number of blocks, a piece is the head alone. It takes ownership of the model
    and cuts it in place. `fresh` names parameters that were not in the checkpoint, `new` the modules of the
    unsplit model with such parameters, `tied` parameters tied to one of another piece, `linears` all linear
    modules of the unsplit model, `parametrised` all with parameters of their own, `adapters` the adapter kind
    of each adapted module, `checksums` those of its weights if requested, `unread` what the checkpoint has of
    modules that the family does not use. A piece stays in evaluation mode,
    without dropout, also in training: a repeated step must give the same bits. Only the batch norms in
    `norms` use batch statistics while gradients are enabled, and LoRA's dropout masks are those of the
    `current_step`. `forward` is not thread-safe: each thread needs its own `replica`. A piece whose blocks
    are on several ranks hands its inputs to `computed_by`.

    Raises CutError for an unsupported model, kind of task or range.
    """

    def __init__(self, model: PreTrainedModel, kind: str, first: int, last: int | None = None) -> None:
        super().__init__()
        self.family = check(model.config.model_type, kind, model.config._attn_implementation)
        self.kind = kind
        self.num_blocks = count_blocks(model.config)
        self.blocks = range(first, self.num_blocks if last is None else last)
        _check_range(self.blocks, self.num_blocks)
        self.model = model
        for path in self.family.unused:
            drop(self.base, path)
        self.linears = tuple(name for name in linears(model) if not name.endswith(self.family.bypassed))
        self.parametrised = tuple(
            name for name, part in model.named_modules() if any(True for _ in part.parameters(recurse=False))
        )
        self.fresh: tuple[str, ...] = ()
        self.new: tuple[str, ...] = ()
        self.tied: tuple[str, ...] = ()
        self.norms: tuple[str, ...] = ()
        self.unread: Mapping[str, Entry] = {}
        self.adapters: Mapping[str, str] = {}
        self.checksums: Mapping[str, str] = {}
        self.current_step = CurrentStep()
        self.computed_by: Callable[..., Any] | None = None
        self._hidden_input = HiddenInput()
        self._cut()
        self.eval()

    @property
    def is_first(self) -> bool:
        """Whether this piece takes the model's own inputs."""
        return self.blocks.start == 0

    @property
    def is_last(self) -> bool:
        """Whether this piece outputs logits, and the loss if it gets labels."""
        return self.blocks.stop == self.num_blocks

    @property
    def base(self) -> PreTrainedModel:
        """The base model without the task head."""
        return cast(PreTrainedModel, self.model.get_submodule(base_path(self.model)))

    @property
    def top(self) -> list[tuple[str, nn.Module]]:
        """The modules on the base model, by name: the task head."""
        if self.base is self.model:
            return [(name, self.model.get_submodule(name)) for name in self.family.top]
        return [(name, child) for name, child in self.model.named_children() if child is not self.base]

    @property
    def own_blocks(self) -> list[nn.Module]:
        """The blocks of this piece, in order."""
        blocks = cast(nn.ModuleList, self.base.get_submodule(self.family.blocks))
        return [blocks[index] for index in self.blocks]

    @property
    def block_config(self) -> Any:
        """The configuration of the blocks, which is inside that of a model of several modalities."""
        return block_config(self.model.config)

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode whatever `mode` is: a loop such as Trainer's calls this."""
        return super().train(False)

    def forward(
        self,
        x: Tensor | Mapping[str, Tensor],
        context: Mapping[str, Tensor] | None = None,
        labels: Tensor | None = None,
    ) -> Any:
        """The hidden state (B, T, D), or, from the last piece, the model's own output.

        The positions of a feature map are its tokens. The first piece takes the model's inputs by name,
        others the hidden state of the previous piece and the `context_of` the inputs.
        """
        if self.computed_by is not None:
            return self.computed_by(x, context or {}, labels)
        if isinstance(x, Tensor):
            inputs = self._surrogate_inputs(x, context or {})
        else:
            inputs = dict(x)
            check_inputs(inputs, self.kind, self.family)
        self._hidden_input.hidden = self._unflattened(x) if isinstance(x, Tensor) else None
        learns = self.norms and torch.is_grad_enabled()
        try:
            with by_batch(self.model, self.norms) if learns else nullcontext():
                if self.is_last:
                    return self.model(**inputs, labels=labels)
                hidden = self.base.get_submodule(self.family.encoder)(**inputs).last_hidden_state
            if not self.family.hands_pictures or self.family.hands_tokens:
                return hidden
            return as_tokens(hidden, channels_last=self.family.channels_last)
        finally:
            self._hidden_input.hidden = None

    def context_of(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors about the inputs that later pieces need besides the hidden state; never the tokens.

        `mask` (B, T) bool is True for tokens that are not padding, and omitted without padding.
        `last` (B,) int32, for models that classify by the last token, is the index of the
        rightmost token that is not the padding token, as computed by the unsplit model.
        `positions` (B, T) int32, of rows with several packed texts, restart at 0 with each text and are
        0 on padding: a token attends to its own text only.
        """
        check_inputs(inputs, self.kind, self.family)
        context: dict[str, Tensor] = {}
        mask_BT = inputs.get("attention_mask")
        if "position_ids" in inputs:
            context["positions"] = inputs["position_ids"].to(torch.int32)
            mask_BT = packed_mask(inputs["position_ids"])
        if mask_BT is not None and not bool(mask_BT.all()):
            context["mask"] = mask_BT.bool()
        padding = self.block_config.pad_token_id if self._pools_last else None
        if padding is not None:
            ids_BT = inputs["input_ids"]
            index_T = torch.arange(ids_BT.shape[1], dtype=torch.int32, device=ids_BT.device)
            context["last"] = (index_T * (ids_BT != padding)).argmax(-1).to(torch.int32)
        return context

    @property
    def _pools_last(self) -> bool:
        return self.family.pools_last and self.kind == SEQUENCE_CLASSIFICATION

    def _unflattened(self, hidden_BTD: Tensor) -> Tensor:
        is_map = self.family.hands_pictures and not self.family.hands_tokens
        return as_feature_map(hidden_BTD) if is_map else hidden_BTD

    def _surrogate_inputs(self, hidden_BTD: Tensor, context: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Surrogate inputs with which the model computes the same masks and pools the same token."""
        if self.kind == IMAGE_CLASSIFICATION:
            return {"pixel_values": hidden_BTD}
        shape, device = hidden_BTD.shape[:2], hidden_BTD.device
        if "positions" in context:
            positions_BT = context["positions"].to(device=device, dtype=torch.int64)
            return {"input_ids": torch.zeros_like(positions_BT), "position_ids": positions_BT}
        mask_BT = context.get("mask")
        if mask_BT is None:
            mask_BT = torch.ones(shape, dtype=torch.bool, device=device)
        padding = self.block_config.pad_token_id
        real = 1 if padding == 0 else 0
        if "last" not in context:
            ids_BT = torch.full(shape, real, device=device)
        else:
            last_B1 = context["last"].to(device=device, dtype=torch.int64)[:, None]
            ids_BT = torch.full(shape, padding, device=device).scatter_(1, last_B1, real)
        return {"input_ids": ids_BT, "attention_mask": mask_BT.to(device)}

    def _cut(self) -> None:
        blocks = cast(nn.ModuleList, self.base.get_submodule(self.family.blocks))
        for index in range(self.num_blocks):
            if index not in self.blocks:
                given = self._hidden_input if index == self.blocks.start - 1 else None
                blocks[index] = placeholder_of(blocks[index], given, self.family, is_first=index == 0)
        if not self.is_first:
            for path in self.family.before:
                grid = (
                    cast(Any, self.base.get_submodule(path)).patch_grid if self.family.hands_tokens else None
                )
                put(self.base, path, EmbeddingPlaceholder(self._hidden_input, self.model.dtype, grid))
            for path in self.family.with_first:
                put(self.base, path, BlockPlaceholder(self._hidden_input))
        if not self.is_last:
            if self.is_first and self.family.norms_embeddings:
                norm_embeddings(self.base, self.family)
            for path in self.family.after:
                put(self.base, path, nn.Identity())
            for name, _ in self.top:
                setattr(self.model, name, nn.Identity())


def ranges(num_blocks: int, cut: int, tail_blocks: int = 0) -> tuple[range, ...]:
    """The block ranges of head and body, and of the tail for `tail_blocks` above 0.

    The head has the first `cut` blocks, the tail the last `tail_blocks`, and every piece
    at least one. Raises CutError otherwise.
    """
    refuse_one_block(num_blocks)
    if not 1 <= cut < num_blocks:
        raise CutError(f"a model of {num_blocks} blocks may be cut at 1..{num_blocks - 1}, got {cut}")
    if not 0 <= tail_blocks < num_blocks - cut:
        left = num_blocks - cut
        raise CutError(
            f"the tail may have 0..{left - 1} of the {left} blocks above the cut, got {tail_blocks}"
        )
    end = num_blocks - tail_blocks
    pieces = (range(cut), range(cut, end), range(end, num_blocks))
    return pieces if tail_blocks else pieces[:2]


def refuse_one_block(num_blocks: int) -> None:
    """Raises CutError for a model with a single block."""
    if num_blocks == 1:
        raise CutError("a model of one block cannot be cut: head and body need at least one block each")


def linears(model: nn.Module) -> tuple[str, ...]:
    """The names of the linear modules, which LoRA can adapt; peft's wrappers of them are not included."""
    return tuple(
        name
        for name, part in model.named_modules()
        if isinstance(part, (nn.Linear, Conv1D)) and not hasattr(part, "base_layer")
    )


def replica(piece: Piece) -> Piece:
    """A copy of a piece with its own trainable tensors and gradients.

    Frozen parameters and buffers are shared, so a replica only takes the memory of the trainable
    tensors. Replicas may run in different threads.
    """
    own = {id(value) for value in tracked_in(piece.model, piece.norms).values()}
    shared: dict[int, Any] = {id(buffer): buffer for buffer in piece.buffers() if id(buffer) not in own}
    shared |= {id(value): value for value in piece.parameters() if not value.requires_grad}
    return copy.deepcopy(piece, shared)


def frozen_in(piece: Piece) -> dict[str, nn.Parameter]:
    """The piece's frozen parameters by their names in its model."""
    return {name: value for name, value in piece.model.named_parameters() if not value.requires_grad}


def share_frozen(frozen: Mapping[str, nn.Parameter], target: Piece) -> None:
    """Replaces frozen parameters of `target` by equal ones of the same name, to free memory."""
    for prefix, module in target.model.named_modules():
        for name, value in module._parameters.items():
            other = frozen.get(f"{prefix}.{name}" if prefix else name)
            if value is None or other is None or value.requires_grad:
                continue
            if torch.equal(value, other):
                module._parameters[name] = other


def _check_range(blocks: range, num_blocks: int) -> None:
    is_top_alone = blocks.start == blocks.stop == num_blocks
    if not (0 <= blocks.start < blocks.stop <= num_blocks or is_top_alone):
        raise CutError(
            f"a piece of a model of {num_blocks} blocks must have one or more of blocks 0..{num_blocks - 1}, "
            f"got {blocks.start}..{blocks.stop - 1}"
        )
