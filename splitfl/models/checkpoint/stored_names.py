"""The stored tensor of each tensor of a model, by the rules of transformers' `from_pretrained`.

The rules rename keys, and stack experts that a checkpoint stores one by one: (rows, columns) of
several keys per expert become one tensor (experts, all rows, columns).
"""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Final

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
from splitfl.models.families import block_config, block_index, count_blocks, family_of

_OF_ADAPTER: Final = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|base_layer)(\.|$)")


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


def refuse_unread(model: PreTrainedModel, stored: Mapping[str, Entry]) -> None:
    """Raises CutError for tensors of blocks that the configuration lacks, and of an adapter beside its base.

    Others that the model does not have, such as the head of another task, are not read, as by transformers.
    """
    family, unread = family_of(model.config.model_type), model._keys_to_ignore_on_load_unexpected or ()
    blocks = count_blocks(model.config)
    known = blocks + (getattr(block_config(model.config), "num_nextn_predict_layers", None) or 0)
    for key, entry in stored.items():
        if _OF_ADAPTER.search(key):
            raise CutError(
                f"{entry.path} has {key}, of an adapter that is not merged: save the model after "
                "merge_and_unload(), or give its base model, and the adapter's folder as adapter.start"
            )
        index = block_index(family, key)
        if index is not None and index >= known and not any(re.search(one, key) for one in unread):
            raise CutError(
                f"{entry.path} has {key}, and a model of {blocks} blocks has no block {index}: is the number "
                "of blocks in config.json that of these weights?"
            )


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
