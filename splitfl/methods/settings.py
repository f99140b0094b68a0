"""Settings outside [method] that only some methods read; with any other they stay at their defaults.

Another method in place of the one of an experiment takes over the keys of [method] that it has, too.
"""

import dataclasses
from typing import Any, Final

from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig, RunConfig, SideConfig, key_values, made, value_of
from splitfl.core.errors import ConfigError
from splitfl.methods.registry import METHODS, choosable, method

SHARED: Final = (
    "adapter.head",
    "train.head_lr",
    "train.head_schedule",
    "train.body_lr",
    "train.body_schedule",
    "train.warmup_steps",
    "train.accumulate",
    "train.clip_grad_norm",
    "federation.aggregator",
    "federation.client_ranks",
    "federation.client_cuts",
    "federation.robust",
    "federation.trim",
    "federation.clip_norm",
    "federation.server_optimiser",
    "federation.server_lr",
    "partition.tail_blocks",
    "codec.activation",
    "codec.output",
    "codec.gradient",
)
"""What is said of the clients' learning and of what crosses the cut, outside the method's own table."""


def optional(config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings of other tables that only some methods read: their values and their defaults."""
    plain = dataclasses.replace(RunConfig(), adapter=AdapterConfig(head=side_config(), body=side_config()))
    return {name: (value_of(config, name), value_of(plain, name)) for name in SHARED}


def with_method(config: RunConfig, name: str) -> RunConfig:
    """The same settings for this method: another than theirs takes the keys that it has and what it reads."""
    own: object = made(method(name).settings, key_values(config.method))
    chosen = dataclasses.replace(config.method, name=name, settings=(own,))
    changed = dataclasses.replace(config, method=chosen)
    return changed if name == config.method.name else without_unread(changed)


def others(config: RunConfig) -> list[str]:
    """The methods of a run that is planned from round to round beside the one that it is named by."""
    named = config.auto.methods if config.auto.every else ()
    return [name for name in choosable() if name in named and name != config.method.name]


def reads(config: RunConfig) -> frozenset[str]:
    """The optional settings that a run reads: its method's, and those that its clients may change to."""
    return method(config.method.name).reads.union(*(METHODS[name].reads for name in others(config)))


def without_unread(config: RunConfig) -> RunConfig:
    """The same settings, with what the method does not read at its default: to lay methods side by side."""
    read = reads(config)
    for name, (got, default) in optional(config).items():
        if got != default and name not in read:
            table, _, key = name.partition(".")
            changed = dataclasses.replace(getattr(config, table), **{key: default})
            config = dataclasses.replace(config, **{table: changed})
    return config


def refuse_unread(config: RunConfig) -> None:
    """ConfigError where a setting is changed that the run does not read; all of them are named."""
    name, found, read = config.method.name, [], reads(config)
    for setting, (got, default) in optional(config).items():
        if got != default and setting not in read:
            readers = ", ".join(one for one, its in METHODS.items() if setting in its.reads) or "no method"
            why = METHODS[name].why_not(setting)
            found.append(
                f"the method {name!r} does not read {setting}: leave it at {_shown(default)}, got "
                f"{_shown(got)}; it is read by {readers}{f'; {name!r} {why}' if why else ''}"
            )
    if found:
        raise ConfigError("; ".join(found))


def _shown(value: object) -> str:
    """A setting as it is written: a table by what is changed in it."""
    if not isinstance(value, SideConfig):
        return repr(value)
    plain = key_values(side_config())
    changed = [f"{key}={own!r}" for key, own in key_values(value).items() if own != plain.get(key)]
    return f"({', '.join(changed)})" if changed else "its default"
