"""Reads and writes settings of experiments: TOML, JSON, `--set` overrides, plain tables."""

import copy
import dataclasses
import json
import tomllib
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from splitfl.config import AutoConfig, RunConfig, key_types, key_values
from splitfl.core.errors import ConfigError
from splitfl.setup.plugins import PLUGINS
from splitfl.setup.typed_tables import Unquoted, build, kind_of, typed


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
    tables = overridden(table, overrides)
    return partial(tables, {*tables, *key_types(RunConfig)})


def partial(table: Mapping[str, Any], names: Container[str]) -> RunConfig:
    """As `from_dict`, for the tables of these names only; others have defaults and are not checked.

    Without `method` among the names torch is not imported.
    """
    chosen = {name: value for name, value in table.items() if name in names}
    for path in PLUGINS:  # tables with a plug-in's defaults
        if path.partition(".")[0] in names:
            _add_table(chosen, path.split("."))
    others = {"method": auto_methods(chosen)} if "method" in names else {}
    built = build(RunConfig, chosen, "", others)
    assert isinstance(built, RunConfig)
    return built


def auto_methods(table: Mapping[str, Any]) -> tuple[str, ...]:
    """The methods that the controller may choose, whose keys [method] may also have."""
    auto = typed(AutoConfig, table.get("auto", {}), "auto", {})
    assert isinstance(auto, AutoConfig)
    return auto.methods if auto.budget != "none" else ()


def overridden(table: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Any]:
    """A copy of these nested tables with overrides applied."""
    whole = copy.deepcopy(dict(table))
    for override in overrides:
        _override(whole, override)
    return whole


def as_dict(config: RunConfig) -> dict[str, Any]:
    """The settings as nested plain tables, lists for tuples, ready for TOML or JSON."""

    def plain(value: Any) -> Any:
        if dataclasses.is_dataclass(value):
            return {key: plain(item) for key, item in key_values(value).items()}
        return list(value) if isinstance(value, tuple) else value

    return {key: plain(value) for key, value in key_values(config).items()}


def _add_table(tables: dict[str, Any], path: Sequence[str]) -> None:
    """Adds an empty table at this path unless there is one."""
    name, *inner = path
    tables.setdefault(name, {})
    if inner and isinstance(tables[name], dict):
        tables[name] = dict(tables[name])
        _add_table(tables[name], inner)


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
    if isinstance(value, str | list | dict):
        table[keys[-1]] = value
    else:
        kind = kind_of(keys)
        table[keys[-1]] = text.strip() if kind is str else value if kind else Unquoted(text.strip())
