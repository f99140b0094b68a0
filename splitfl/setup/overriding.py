"""Overrides that choose another plug-in than the experiment's."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from splitfl.config import MethodConfig, RunConfig, key_types
from splitfl.setup.experiment_file import as_dict, auto_methods, from_dict, overridden, partial
from splitfl.setup.plugins import PLUGINS
from splitfl.setup.typed_tables import kind_of


def resolved_settings(
    table: Mapping[str, Any],
    overrides: list[str],
    say: Callable[[str], None] | None = None,
    name: str = "the experiment",
    *,
    for_several: bool = False,
) -> RunConfig:
    """The settings of an experiment's tables, with `a.b=c` overrides applied.

    If overrides choose another plug-in (method, transport, adapter kind, link, tracker), settings of the
    tables that it does not have are dropped and reported by `say`, with `name`; all others are applied or
    refused. Overrides `for_several` methods are applied to the methods that have their keys.
    """
    for what, names in inapplicable(table, overrides, PLUGINS):
        table = without(table, names)
        if names and say is not None:
            say(f"dropped from {name}, since {what}: {', '.join(names)}")
    if for_several:
        others = {f"method.{key}" for key in _keys_of_others(overridden(table, overrides))}
        overrides = [one for one in overrides if _path(one) not in others]
    return from_dict(table, overrides)


def without(table: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """The tables of an experiment without the settings at these paths."""
    left_out = set(settings)
    return {name: _without(value, f"{name}.", left_out) for name, value in table.items()}


def inapplicable(
    table: Mapping[str, Any], overrides: list[str], paths: Iterable[str]
) -> Iterator[tuple[str, list[str]]]:
    """The settings of a table that do not apply to the plug-in that overrides choose, with the reason."""
    merged = overridden(table, overrides)
    for path in paths:
        plugins, kind = PLUGINS[path], kind_of(path.split("."))
        key, setting = plugins.key, f"{path}.{plugins.key}"
        now, before = (
            plugins.names(_table(one, path).get(key, getattr(kind, key))) for one in (merged, table)
        )
        if now == before or not all(one in plugins.registry() for one in before):
            continue
        others = auto_methods(merged) if path == "method" else ()
        known, old = (
            {own for one in names for own in key_types(plugins.settings(one, setting))}
            for names in ((*now, *others), before)
        )
        unknown = [f"{path}.{one}" for one in _table(table, path) if one in old - known]
        if path == "method":
            unknown += _unread(table, merged, *now)
        yield f"the {plugins.noun} {', '.join(map(repr, now))} does not have them", sorted(unknown)
    if "transport.name" in _paths(overrides) and _is_carried(merged):
        emulated = [f"{name}.{key}" for name in ("link", "analog") for key in _table(table, name)]
        yield "its transport is no emulated link", emulated
    if _paths(overrides) & {"link.scenario", "link.trace"}:
        rates = [f"link.{key}" for key in ("up", "down") if key in _table(table, "link")]
        yield "a link.scenario or link.trace has its own rates", rates


def _is_carried(merged: Mapping[str, Any]) -> bool:
    """Whether a transport is chosen that carries frames itself, so that no link is emulated."""
    from splitfl.transport.registry import TRANSPORTS

    spec = dict(TRANSPORTS).get(str(_table(merged, "transport").get("name")))
    return spec is not None and spec.describe_link is not None


def _unread(table: Mapping[str, Any], merged: Mapping[str, Any], name: str) -> list[str]:
    """Changed settings outside [method] that this method does not read."""
    from splitfl.methods.settings import SHARED, reads  # imports torch

    config = partial({"method": {"name": name}, "auto": merged.get("auto", {})}, ("method", "auto"))
    plain, found = as_dict(partial({}, ("method", "adapter"))), []
    for setting in set(SHARED) - reads(config):
        outer, _, key = setting.partition(".")
        default = plain[outer][key]
        value = _table(table, outer).get(key, default)
        if (default | value if isinstance(value, dict) else value) != default:
            found.append(setting)
    return found


def _keys_of_others(table: Mapping[str, Any]) -> set[str]:
    """The keys of [method] that only methods other than the table's have."""
    from splitfl.methods.registry import METHODS  # imports torch

    own = {_table(table, "method").get("name", MethodConfig.name), *auto_methods(table)}
    keys = {name: set(key_types(spec.settings)) for name, spec in METHODS.items()}
    return set[str]().union(*keys.values()).difference(*(keys[name] for name in own & keys.keys()))


def _paths(overrides: Iterable[str]) -> set[str]:
    return {_path(one) for one in overrides}


def _path(override: str) -> str:
    """The dotted path of the setting that an override names."""
    return override.partition("=")[0].strip()


def _table(tables: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    """The table at this path; empty for another value, which is refused later."""
    found: Any = tables
    for key in path.split("."):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _without(table: Any, path: str, settings: Iterable[str]) -> Any:
    if not isinstance(table, dict):
        return table
    return {
        key: _without(value, f"{path}{key}.", settings)
        for key, value in table.items()
        if f"{path}{key}" not in settings
    }
