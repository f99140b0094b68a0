"""Allocates and fills the tensors of a piece: from the checkpoint, or by the model's own initialisation."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from channel.core.rng import stream
from splitfl.core.default_generator import default_generator
from splitfl.core.errors import CutError, ModelMissing
from splitfl.models.checkpoint.checkpoint_file import Entry, check_stored, read
from splitfl.models.checkpoint.quantised_checkpoint import is_of_integers, read_quantised
from splitfl.models.cut import Piece
from splitfl.models.families import base_path, family_of, is_inside
from splitfl.models.quantised import Quantisation, QuantisedLinear, allocated, quantise

Aliases = dict[str, tuple[str, ...]]
"""For every parameter name, all names of the same (tied) parameter."""


@dataclass(frozen=True, kw_only=True)
class WeightSource:
    """A checkpoint's tensors by their names in the model.

    `quantisation` is of its linear modules: of those stored so if `is_quantised`, else of those that are to
    be quantised when read. Other initial values are drawn from the `seed`.
    """

    aliases: Aliases
    stored: Mapping[str, Entry]
    seed: int
    is_shape_only: bool
    quantisation: Quantisation | None
    is_quantised: bool
    is_shortened: bool = False

    def entry(self, name: str) -> Entry | None:
        """The tensor of a parameter, or of one tied to it; None for one that is not stored."""
        return next((self.stored[alias] for alias in self.aliases[name] if alias in self.stored), None)

    def parameter(self, meta: Tensor, name: str, device: str) -> nn.Parameter:
        """The parameter of this name: NaN if it is to be initialised, zeros without storage if shape-only."""
        entry = self.entry(name)
        if entry is not None:
            check_stored(meta, name, entry)
        if self.is_shape_only:
            value = nn.Parameter(_without_storage(meta))
        elif entry is None:
            return nn.Parameter(torch.full_like(meta, torch.nan, device="cpu"))
        else:
            value = nn.Parameter(torch.empty_like(meta, device=device))
            read(entry, value)
        value._is_hf_initialized = True  # type: ignore[attr-defined]  # transformers then leaves it as it is
        return value


def materialise(
    piece: Piece, checkpoint: WeightSource, device: str, on_block: Callable[[nn.Module], None] | None = None
) -> tuple[str, ...]:
    """Fills every tensor of the piece; returns the names of new head parameters.

    `on_block` receives each block as soon as it has its values, and may replace its parameters.
    """
    _quantise(piece, checkpoint)
    made: dict[int, nn.Parameter] = {}
    fresh: list[str] = []
    ends = {} if on_block is None else {list(block.modules())[-1]: block for block in piece.own_blocks}
    for path, module in piece.model.named_modules():
        missing = []
        for leaf, value in module._parameters.items():
            if value is None or not value.is_meta:
                continue
            if id(value) not in made:
                name = f"{path}.{leaf}" if path else leaf
                made[id(value)] = checkpoint.parameter(value, name, device)
                if checkpoint.entry(name) is None:
                    _refuse_unless_new(piece, name, checkpoint)
                    missing.append(name)
            module._parameters[leaf] = made[id(value)]
        for leaf, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[leaf] = torch.empty_like(buffer, device="cpu")
        if (missing and not checkpoint.is_shape_only) or module._buffers:
            _initialise(
                _model_of(piece.model, path),
                module,
                stream(checkpoint.seed, "fresh", path).integers(2**63).item(),
            )
            assert not any(piece.model.get_parameter(name).isnan().any() for name in missing)
            _read_buffers(path, module, checkpoint)
        if path in piece.new:
            fresh += missing
        if on_block is not None and module in ends:
            block = ends[module].to(device)
            own = set(block.parameters())
            made = {key: value for key, value in made.items() if value not in own}  # or they would be kept
            on_block(block)
    piece.to(device)
    return tuple(fresh)


def is_of_base(model: PreTrainedModel, name: str) -> bool:
    """Whether a tensor of this name belongs to the base model, not to the task head."""
    if path := base_path(model):
        return name.startswith(f"{path}.")
    return not is_inside(model, name, family_of(model.config.model_type).top)


def is_on_top(model: PreTrainedModel, name: str) -> bool:
    """Whether a tensor of this name belongs to the task head or the pooler."""
    return not is_of_base(model, name) or is_inside(model, name, ["pooler"])


def _quantise(piece: Piece, checkpoint: WeightSource) -> None:
    """Replaces linear modules of the piece by quantised ones, whose weights are read one at a time.

    All integers are allocated first: the memory of a weight in floating point then serves the next.
    """
    quantisation = checkpoint.quantisation
    if quantisation is None:
        return
    found: dict[str, tuple[nn.Linear, QuantisedLinear]] = {}
    for path, module in list(piece.model.named_modules()):
        is_stored = is_of_integers(checkpoint.stored.get(f"{path}.weight"))
        if is_stored and not _is_linear(piece, module):
            raise CutError(f"the checkpoint's {path} is quantised, and only torch.nn.Linear modules can be")
        if is_stored if checkpoint.is_quantised else _is_quantisable(piece, module, path, checkpoint):
            assert isinstance(module, nn.Linear)
            made = allocated(
                path, module.weight, module.bias, quantisation, is_shape_only=checkpoint.is_shape_only
            )
            found[path] = module, made
            piece.model.set_submodule(path, made)
    for path, (module, made) in found.items():
        name = f"{path}.weight"
        if checkpoint.is_shape_only:
            continue
        if checkpoint.is_quantised:
            read_quantised(path, checkpoint.stored[name], made)
        else:
            quantise(made, checkpoint.parameter(module.weight, name, "cpu"))


def _is_linear(piece: Piece, module: nn.Module) -> bool:
    """Whether the module computes x W^T + b; other subclasses, as a router, compute something else."""
    return type(module) is nn.Linear or type(module).__name__ == piece.family.linear


def _is_quantisable(piece: Piece, module: nn.Module, path: str, checkpoint: WeightSource) -> bool:
    """Whether this is a linear module of the base model in the checkpoint, not tied to another one."""
    name = f"{path}.weight"
    return (
        _is_linear(piece, module)
        and is_of_base(piece.model, name)
        and name in checkpoint.stored
        and len(checkpoint.aliases[name]) == 1
    )


def _without_storage(meta: Tensor) -> Tensor:
    return torch.zeros((), dtype=meta.dtype, device="cpu").expand(meta.shape)


def _model_of(model: PreTrainedModel, path: str) -> PreTrainedModel:
    """The innermost model around a module: a text model inside another one initialises its own modules."""
    parts = path.split(".")
    inside = (model.get_submodule(".".join(parts[:end])) for end in range(len(parts), 0, -1))
    return next((part for part in inside if isinstance(part, PreTrainedModel)), model)


def _initialise(model: PreTrainedModel, module: nn.Module, seed: int) -> None:
    with default_generator(seed), torch.no_grad():
        model._init_weights(module)  # type: ignore[no-untyped-call]


def _read_buffers(path: str, module: nn.Module, checkpoint: WeightSource) -> None:
    """Reads buffers such as running statistics from the checkpoint."""
    for leaf, buffer in module._buffers.items():
        name = f"{path}.{leaf}" if path else leaf
        entry = checkpoint.stored.get(name)
        if entry is not None and buffer is not None:
            check_stored(buffer, name, entry)
            if not checkpoint.is_shape_only:
                read(entry, buffer)


def _refuse_unless_new(piece: Piece, name: str, checkpoint: WeightSource) -> None:
    """Raises ModelMissing for a missing parameter outside the head, unless the model is untrained.

    Sinusoidal positions are not stored: the model computes them when it initialises their module. After
    the last stage of a shortened model follow new modules of its width.
    """
    if checkpoint.is_shortened and is_inside(piece.model, name, piece.family.after):
        return
    computed = piece.model._keys_to_ignore_on_load_missing or ()
    if any(re.search(pattern, name) for pattern in computed):
        return
    if not is_on_top(piece.model, name) and not getattr(piece.model.config, "untrained", False):
        model_type = piece.model.config.model_type
        raise ModelMissing(f"the checkpoint lacks {name}: it is not of a {model_type} model of this shape")
