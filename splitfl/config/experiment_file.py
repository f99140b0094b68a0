"""Reads and writes settings of experiments: TOML, JSON, `--set` overrides, plain tables."""

import copy
import dataclasses
import json
import tomllib
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from splitfl.config import RunConfig, nearest
from splitfl.core.errors import ConfigError

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

_LARGEST: Final = 1 << 1023  # whole numbers below it are floats too


def parse(text: str, overrides: Iterable[str] = (), *, source: str = "the experiment") -> RunConfig:
    """The experiment of this TOML text, with `a.b=c` overrides applied.

    Raises ConfigError for text that is not TOML, unknown keys and values out of range.
    """
    return from_dict(_toml(text, source), overrides)


def load(path: Path, overrides: Iterable[str] = ()) -> RunConfig:
    """The experiment in this TOML file, or in the config.json of a run's folder; see `parse`."""
    return from_dict(read_tables(path), overrides)


def read_tables(path: Path) -> dict[str, Any]:
    """The tables of an experiment file, unchecked; see `load`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the experiment file {path}: {error}") from None
    if path.suffix.lower() == ".json":
        return _json(text, path)
    return _toml(text, str(path))


def from_dict(table: Mapping[str, Any], overrides: Iterable[str] = ()) -> RunConfig:
    """The experiment of these nested tables, with overrides applied; see `parse`."""
    built = _build(RunConfig, overridden(table, overrides), "")
    assert isinstance(built, RunConfig)
    return built


def overridden(table: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of these nested tables with overrides applied."""
    whole = copy.deepcopy(dict(table))
    for override in overrides:
        _override(whole, override)
    return whole


def as_dict(config: RunConfig) -> dict[str, Any]:
    """The settings as nested plain tables, lists for tuples, ready for TOML or JSON."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(item) for key, item in value.items()}
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in dataclasses.asdict(config).items()}


def _toml(text: str, source: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{source} is not valid TOML: {error}") from None


def _json(text: str, path: Path) -> dict[str, Any]:
    try:
        table = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(table, dict):
        raise ConfigError(f"{path} must hold an object, got {type(table).__name__}")
    return table


def _override(table: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    keys = [key.strip() for key in path.split(".")]
    if not equals or not all(keys):
        raise ConfigError(f"--set takes table.key=value, got {override!r}")
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise ConfigError(f"--set {override!r}: {key} is not a table")
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except (ValueError, RecursionError):
        value = text.strip()
    is_text = _kind_of(keys) is str and not isinstance(value, str | list | dict)
    table[keys[-1]] = text.strip() if is_text else value


def _kind_of(keys: list[str]) -> Any:
    """The type of this setting, None for an unknown one."""
    kind: Any = RunConfig
    for key in keys:
        kind = typing.get_type_hints(kind).get(key) if dataclasses.is_dataclass(kind) else None
    return kind


def _build(kind: Any, table: Mapping[str, Any], path: str) -> Any:
    hints = typing.get_type_hints(kind)
    values = {}
    for key, value in table.items():
        name = f"{path}{key}"
        if key not in hints:
            new = f" it is now {RENAMED[name]!r};" if name in RENAMED else nearest(key, hints)
            raise ConfigError(f"unknown key {name!r};{new} have {', '.join(hints)}")
        values[key] = _value(hints[key], value, name)
    try:
        return kind(**values)
    except ConfigError as error:
        raise ConfigError(f"[{path.rstrip('.')}] {error}" if path else str(error)) from None


def _value(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{name} must be a table, got {value!r}")
        return _build(hint, value, f"{name}.")
    if isinstance(hint, types.GenericAlias):  # tuple[str, ...], tuple[int, ...] or tuple[float, ...]
        kind = typing.get_args(hint)[0]
        members = [value] if type(value) is kind else value
        if kind is float and isinstance(members, list):
            members = [float(member) if _fits_float(member) else member for member in members]
        if not isinstance(members, list) or not all(type(member) is kind for member in members):
            what = {str: "strings", int: "whole numbers", float: "numbers"}[kind]
            raise ConfigError(f"{name} must be a list of {what}, got {value!r}")
        return tuple(members)
    if hint is float and _fits_float(value):
        return float(value)
    if type(value) is not hint:
        raise ConfigError(f"{name} must be of type {hint.__name__}, got {value!r}")
    return value


def _fits_float(value: object) -> bool:
    return type(value) is int and abs(value) < _LARGEST
