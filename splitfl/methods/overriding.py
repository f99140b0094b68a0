"""Overrides that choose another method, or another kind of link, than an experiment was written for."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from splitfl.config import RunConfig
from splitfl.config.experiment_file import as_dict, from_dict, overridden


def settled(
    table: Mapping[str, Any],
    overrides: list[str],
    say: Callable[[str], None] | None = None,
    name: str = "the experiment",
) -> RunConfig:
    """The settings of an experiment's tables, with `a.b=c` overrides put over them.

    Where overrides choose another method, or a link that is a scenario or a trace, the settings that these
    do not read are left out, and `say` is told which of `name`; all that remains is obeyed or refused.
    """
    for what, names in (_unread(table, overrides), rates(table, overrides)):
        table = without(table, names)
        if names and say is not None:
            say(f"left out of {name}, since {what}: {', '.join(names)}")
    return from_dict(table, overrides)


def without(table: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """The tables of an experiment without these settings, each `table.key`."""
    left_out = list(settings)
    return {name: _without(value, name, left_out) for name, value in table.items()}


def _unread(table: Mapping[str, Any], overrides: list[str]) -> tuple[str, list[str]]:
    """The settings that another method than the table's own does not read, where overrides choose one."""
    if "method.name" not in _asked(overrides):
        return "", []
    from splitfl.methods.settings import optional, reads  # takes torch along

    merged = overridden(table, overrides)
    chosen = from_dict({"method": {"name": merged["method"]["name"]}, "auto": merged.get("auto", {})})
    plain = as_dict(RunConfig())
    if chosen.method.name == _table(table, "method").get("name", plain["method"]["name"]):
        return "", []
    found = []
    for setting in optional(chosen).keys() - reads(chosen):
        name, _, key = setting.partition(".")
        default = plain[name][key]
        value = _table(table, name).get(key, default)
        if (default | value if isinstance(value, dict) else value) != default:
            found.append(setting)
    return f"the method {chosen.method.name!r} does not read them", sorted(found)


def rates(table: Mapping[str, Any], overrides: list[str]) -> tuple[str, list[str]]:
    """The rates of a link that overrides make a scenario or a trace, which has rates of its own."""
    if not _asked(overrides) & {"link.scenario", "link.trace"}:
        return "", []
    rates = [f"link.{key}" for key in ("up", "down") if key in _table(table, "link")]
    return "a link.scenario or link.trace has rates of its own", rates


def _asked(overrides: Iterable[str]) -> set[str]:
    return {one.partition("=")[0].strip() for one in overrides}


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The table of this name; empty for what is none, which is refused later on."""
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _without(table: Any, name: str, settings: Iterable[str]) -> Any:
    """A table without those of these settings that are its own."""
    if not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if f"{name}.{key}" not in settings}
