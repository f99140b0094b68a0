"""Builds typed settings, including plug-ins', from plain tables; raises ConfigError for invalid ones."""

import dataclasses
import tomllib
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from splitfl.config import PluginTable, RunConfig, chosen, key_types, nearest
from splitfl.core.errors import ConfigError
from splitfl.setup.plugins import PLUGINS, Plugins

RENAMED: Final = {
    "survival": "fault_tolerance",
    "fault_tolerance.patience_s": "fault_tolerance.reconnect_timeout_s",
    "fault_tolerance.select": "fault_tolerance.clients_per_round",
    "fault_tolerance.enough": "fault_tolerance.quorum",
    "loss": "erasure",
    "federation.most_stale": "federation.max_staleness",
    "auto.most": "auto.limit",
    "adapter.head.numbers": "adapter.head.trained_numbers",
    "adapter.body.numbers": "adapter.body.trained_numbers",
}
"""Former keys with their current names."""

_LARGEST: Final = 1 << 1023  # integers below it are accepted as floats


class Unquoted(str):
    """The text of an override: a string if its key is a string, else parsed as TOML."""

    __slots__ = ()


def kind_of(path: Iterable[str]) -> Any:
    """The type of the setting at this path, None for an unknown one or a plug-in's."""
    kind: Any = RunConfig
    for key in path:
        kind = key_types(kind).get(key) if dataclasses.is_dataclass(kind) and isinstance(kind, type) else None
    return kind


def typed(hint: Any, value: Any, name: str, others: Mapping[str, tuple[str, ...]]) -> Any:
    """A value of this type from a plain one; `name` is its dotted path.

    `others` maps the path of a table to further plug-ins whose keys it may have.
    """
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be a table, got {value!r}")
        assert isinstance(hint, type)
        return build(hint, value, name, others)
    if isinstance(value, Unquoted):
        value = str(value) if hint is str else tomllib.loads(f"v = {value}")["v"]
    if isinstance(hint, types.GenericAlias):
        return _typed_list(hint, value, name)
    if hint is float and _fits_float(value):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{name} must be of type {hint.__name__}, got {value!r}")
    return value


def build(kind: type, table: Mapping[str, Any], path: str, others: Mapping[str, tuple[str, ...]]) -> Any:
    """A dataclass of this type from the table at this path; raises ConfigError for an unknown key."""
    if issubclass(kind, PluginTable):
        return _build_plugin(kind, table, path, others)
    hints = key_types(kind)
    for key in table:
        if key not in hints:
            name = _joined(path, key)
            raise ConfigError(f"unknown key {name!r};{_instead(name, hints)} have {', '.join(hints)}")
    values = {key: typed(hints[key], value, _joined(path, key), others) for key, value in table.items()}
    return _checked(path, lambda: kind(**values))


def _build_plugin(
    kind: type[PluginTable], table: Mapping[str, Any], path: str, others: Mapping[str, tuple[str, ...]]
) -> Any:
    """A table with the settings of the plug-ins that it names."""
    plugins, hints = PLUGINS[path], key_types(kind)
    setting = _joined(path, plugins.key)
    value = getattr(kind, plugins.key)
    if plugins.key in table:
        value = typed(hints[plugins.key], table[plugins.key], setting, {})
    names = plugins.names(value)
    named = {name: setting for name in names}
    named |= {one: "auto.methods" for one in others.get(path, ()) if one not in named}
    owners = list(dict.fromkeys(plugins.settings(one, by) for one, by in named.items()))
    for owner in owners:
        hints |= key_types(owner)
    for key in table:
        if key not in hints:
            raise ConfigError(_no_such_key(plugins, names, _joined(path, key), hints))
    values = {key: typed(hints[key], value, _joined(path, key), others) for key, value in table.items()}
    return _checked(path, lambda: chosen(kind, owners, values))


def _no_such_key(plugins: Plugins, chosen: list[str], name: str, hints: Mapping[str, Any]) -> str:
    having = ", ".join(plugins.having(name.rpartition(".")[2]))
    has = f"the {plugins.noun} {', '.join(map(repr, chosen))} has the keys" if chosen else "the keys are"
    message = f"unknown key {name!r};{_instead(name, hints)} {has} {', '.join(hints)}"
    return f"{message}; it is a key of {having}" if having else message


def _instead(name: str, hints: Iterable[str]) -> str:
    if name in RENAMED:
        return f" it is now {RENAMED[name]!r};"
    return nearest(name.rpartition(".")[2], hints)


def _checked(path: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ConfigError as error:
        raise ConfigError(f"[{path}] {error}" if path else str(error)) from None


def _typed_list(hint: types.GenericAlias, value: Any, name: str) -> Any:
    """A tuple[str, ...], tuple[int, ...] or tuple[float, ...]; a single value is a list of one."""
    kind = typing.get_args(hint)[0]
    members = [value] if type(value) is kind else value
    if kind is float and isinstance(members, list):
        members = [float(member) if _fits_float(member) else member for member in members]
    if not isinstance(members, list) or not all(type(member) is kind for member in members):
        what = {str: "strings", int: "whole numbers", float: "numbers"}[kind]
        raise ConfigError(f"{name} must be a list of {what}, got {value!r}")
    return tuple(members)


def _fits_float(value: object) -> bool:
    return type(value) is int and abs(value) < _LARGEST


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
