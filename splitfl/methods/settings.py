"""Settings outside [method] that only some methods read; with other methods they must have their defaults.

A method that replaces an experiment's own keeps the values of the [method] keys that both have.
"""

import dataclasses
from typing import Any, Final

from splitfl.adapters.registry import side_config
from splitfl.config import AdapterConfig, RunConfig, SideConfig, key_values, made, value_of
from splitfl.core.errors import ConfigError
from splitfl.methods.parts.spec import SERVER_BATCH
from splitfl.methods.registry import METHODS, controllable, method

SHARED: Final = (
    SERVER_BATCH,
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
    "codec.adapter_up",
    "codec.adapter_down",
    "codec.error_feedback",
    "codec.error_decay",
)
"""Settings of training and of messages that not every method reads."""


def optional(config: RunConfig) -> dict[str, tuple[Any, Any]]:
    """The settings in `SHARED`, as (value, default)."""
    plain = dataclasses.replace(RunConfig(), adapter=AdapterConfig(head=side_config(), body=side_config()))
    return {name: (value_of(config, name), value_of(plain, name)) for name in SHARED}


def with_method(config: RunConfig, name: str) -> RunConfig:
    """The settings with another method: keys that it does not have are dropped, unread ones reset."""
    own: object = made(method(name).settings, key_values(config.method))
    chosen = dataclasses.replace(config.method, name=name, settings=(own,))
    changed = dataclasses.replace(config, method=chosen)
    return changed if name == config.method.name else without_unread(changed)


def alternatives(config: RunConfig) -> list[str]:
    """The methods that the controller may assign besides `method.name`."""
    named = config.auto.methods if config.auto.every else ()
    return [name for name in controllable() if name in named and name != config.method.name]


def reads(config: RunConfig) -> frozenset[str]:
    """The optional settings that a run reads: those of its method and of the controller's methods."""
    return method(config.method.name).reads.union(*(METHODS[name].reads for name in alternatives(config)))


def without_unread(config: RunConfig) -> RunConfig:
    """The settings with those that the run does not read at their defaults, to compare methods."""
    read = reads(config)
    for name, (got, default) in optional(config).items():
        if got != default and name not in read:
            table, _, key = name.partition(".")
            changed = dataclasses.replace(getattr(config, table), **{key: default})
            config = dataclasses.replace(config, **{table: changed})
    return config


def refuse_unread(config: RunConfig) -> None:
    """ConfigError naming every setting with another value than its default that the run does not read."""
    name, found, read = config.method.name, [], reads(config)
    for setting, (got, default) in optional(config).items():
        if got != default and setting not in read:
            readers = (
                ", ".join(other for other, spec in METHODS.items() if setting in spec.reads) or "no method"
            )
            why = METHODS[name].why_not(setting)
            found.append(
                f"the method {name!r} does not read {setting}: leave it at {_formatted(default)}, got "
                f"{_formatted(got)}; it is read by {readers}{f'; {name!r} {why}' if why else ''}"
            )
    if found:
        raise ConfigError("; ".join(found))


def _formatted(value: object) -> str:
    """A setting in a message: a table as its keys with other values than the defaults."""
    if not isinstance(value, SideConfig):
        return repr(value)
    plain = key_values(side_config())
    changed = [f"{key}={own!r}" for key, own in key_values(value).items() if own != plain.get(key)]
    return f"({', '.join(changed)})" if changed else "its default"
