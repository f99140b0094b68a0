"""The stored tensor of each tensor of a model, by the rules of transformers' `from_pretrained`.

The rules rename keys, and stack experts that a checkpoint stores one by one: (rows, columns) of
several keys per expert become one tensor (experts, all rows, columns).
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    Concatenate,
    MergeModulelist,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from splitfl.core.errors import CutError, ModelMissing
from splitfl.models.checkpoint.checkpoint_file import Entry
from splitfl.models.checkpoint.quantised_checkpoint import grouped


def stored_in_model(model: PreTrainedModel, stored: Mapping[str, Entry]) -> dict[str, Entry]:
    """The stored tensor of each of the model's tensor names that the checkpoint has.

    Raises CutError for a conversion other than the stacking of experts, ModelMissing for missing experts.
    """
    state, stored = model.state_dict(), grouped(stored)
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    found: dict[str, Entry] = {}
    parts: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for key in sorted(stored, key=dot_natural_key):
        name, pattern = rename_source_key(key, renamings, converters, model.base_model_prefix, state)
        if pattern is not None and name in state:
            parts[name][pattern].append(stored[key])
        elif name in state:
            found[name] = stored[key]
    for name, by_pattern in parts.items():
        patterns = _patterns(name, set(by_pattern), converters)
        found[name] = _stacked(name, [by_pattern[pattern] for pattern in patterns])
    return found


def _patterns(name: str, used: set[str], converters: Sequence[WeightConverter]) -> list[str]:
    """The patterns of the keys of each expert, in the order of their rows in the stacked tensor."""
    converter = next(one for one in converters if used.issubset(one.source_patterns))
    stacks = [(type(operation), getattr(operation, "dim", None)) for operation in converter.operations]
    patterns: list[str] = converter.source_patterns
    if stacks != [(MergeModulelist, 0), (Concatenate, 1)][: len(patterns)]:
        raise CutError(f"tensor {name} is stored in a form that needs conversion: {', '.join(patterns)}")
    return patterns


def _stacked(name: str, columns: Sequence[Sequence[Entry]]) -> Entry:
    """One entry of the tensors of all experts; `columns` has a list of one tensor per expert for each key."""
    if len({len(column) for column in columns}) > 1:
        counts = " and ".join(str(len(column)) for column in columns)
        raise ModelMissing(f"the checkpoint has {counts} of the tensors of {name}: some experts are missing")
    experts = list(zip(*columns, strict=True))
    rows = sum(one.shape[0] for one in experts[0])
    if any({one.shape[1:] for one in expert} != {experts[0][0].shape[1:]} for expert in experts) or any(
        sum(one.shape[0] for one in expert) != rows for expert in experts
    ):
        raise CutError(f"the experts of {name} have different shapes in {experts[0][0].path}")
    parts = tuple(one for expert in experts for one in expert)
    first = parts[0]
    return Entry(
        path=first.path,
        dtype=first.dtype,
        shape=(len(experts), rows, *first.shape[1:]),
        start=first.start,
        num_bytes=sum(one.num_bytes for one in parts),
        parts=parts,
    )
