"""The tensor-parallel plan that transformers has for a model: how the modules of a block are divided."""

from collections.abc import Mapping
from typing import Final

from transformers import PretrainedConfig

from splitfl.core.errors import ConfigError
from splitfl.models.families import FAMILIES, block_config

COLUMNS: Final = "colwise"
"""Each rank has outputs of its own; the module's input is whole."""
ROWS: Final = "rowwise"
"""Each rank has inputs of its own; the sum of the ranks' outputs is the module's output."""
_UNDIVIDED: Final = "replicated_with_grad_allreduce"
_STYLES: Final = frozenset({COLUMNS, ROWS, "colwise_gather_output", "rowwise_split_input", _UNDIVIDED})


def tensor_plan(config: PretrainedConfig) -> dict[str, str]:
    """The plan's style for each divided module of a block, by its name in the block; empty without a plan."""
    return {name: style for name, style in _whole_plan(config).items() if style != _UNDIVIDED}


def check_tensor_plan(config: PretrainedConfig, ranks: int) -> None:
    """Raises ConfigError for a model that transformers' plan cannot divide among this number of ranks."""
    plan = _whole_plan(config)
    if not plan:
        reason = "transformers has no tensor-parallel plan for it"
    elif others := sorted(set(plan.values()) - _STYLES):
        reason = f"its plan divides experts ({', '.join(others)}), and only linear modules are divided here"
    else:
        _check_heads(config, plan, ranks)
        return
    raise ConfigError(
        f"server.shard must be 'fsdp' or 'stages' for a {config.model_type} model, got 'tensor': {reason}"
    )


def _check_heads(config: PretrainedConfig, plan: Mapping[str, str], ranks: int) -> None:
    """Raises ConfigError unless all ranks have equal numbers of attention heads, where heads are divided."""
    reads = FAMILIES[config.model_type].reads
    if not any(plan.get(name) == COLUMNS for name in plan if name.rpartition(".")[2].startswith(reads)):
        return
    inner = block_config(config)
    for key in ("num_attention_heads", "num_key_value_heads"):
        heads = getattr(inner, key, None)
        if heads and heads % ranks:
            raise ConfigError(
                f"server.ranks must divide the model's {heads} {key} with server.shard 'tensor', got "
                f"{ranks}; 'fsdp' and 'stages' divide it otherwise"
            )


def _whole_plan(config: PretrainedConfig) -> dict[str, str]:
    prefix = f"{FAMILIES[config.model_type].blocks.rpartition('.')[2]}.*."
    plan = getattr(block_config(config), "base_model_tp_plan", None) or {}
    return {name.removeprefix(prefix): style for name, style in plan.items() if name.startswith(prefix)}
