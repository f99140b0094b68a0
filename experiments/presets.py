"""The experiments that come with splitfl, by name."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from splitfl.config import MethodConfig, RunConfig, key_types, key_values, nearest
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment_file import (
    as_dict,
    auto_methods,
    from_dict,
    overridden,
    partial,
    read_tables,
)

FOLDER = Path(__file__).parent / "presets"
_WITHOUT_TORCH: Final = ("federation", "link", "train", "transport")


def names() -> list[str]:
    """All presets; those in a folder have its name before theirs."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.toml"))


def about(name: str) -> str:
    """What a preset says of itself at its top."""
    lines = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    comment = [
        line.lstrip("# ")
        for line in lines[: next(i for i, line in enumerate(lines) if not line.startswith("#"))]
    ]
    return " ".join(comment)


def find(
    name: str,
    overrides: Iterable[str],
    say: Callable[[str], None] | None = None,
    *,
    for_several: bool = False,
) -> tuple[str, RunConfig]:
    """The short name and settings of a preset, or of a TOML or JSON file at that path.

    Where overrides choose another method, or a link that is a scenario or a trace, what these do not read
    of the preset or the file is left out, and `say` is told what; all that remains is obeyed or refused.
    Where overrides are `for_several` methods, each takes those of them of which it has the key.
    """
    short, path = _named(name)
    chosen = list(overrides)
    table = read_tables(path)
    for what, names in (_unread(table, chosen), _rates(table, chosen)):
        table = {key: _without(value, key, names) for key, value in table.items()}
        if names and say is not None:
            say(f"left out of {short}, since {what}: {', '.join(names)}")
    if for_several:
        others = {f"method.{key}" for key in _keys_of_others(overridden(table, chosen))}
        chosen = [one for one in chosen if _path(one) not in others]
    return short, from_dict(table, chosen)


def without_learning(name: str, overrides: Iterable[str]) -> RunConfig:
    """What `find` gives, as far as it can be had without torch: who takes part, the link and the transport.

    All other settings are the defaults, and are not looked at.
    """
    _, path = _named(name)
    chosen = list(overrides)
    table = read_tables(path)
    _, rates = _rates(table, chosen)
    table = overridden({key: _without(value, key, rates) for key, value in table.items()}, chosen)
    return partial(table, _WITHOUT_TORCH)


def _named(name: str) -> tuple[str, Path]:
    """The short name and the file of a preset, or of a path; ConfigError for anything else."""
    if name in names():
        return Path(name).name, FOLDER / f"{name}.toml"
    path = Path(name)
    if path.suffix.lower() in (".toml", ".json"):
        return (path.parent.name if path.name == "config.json" else path.stem), path
    known = ", ".join(names())
    raise ConfigError(f"unknown preset {name!r};{nearest(name, names())} have {known}, or give a .toml file")


def _unread(table: Mapping[str, Any], overrides: list[str]) -> tuple[str, list[str]]:
    """The settings that another method than the table's own does not have, where overrides choose one."""
    merged = overridden(table, overrides)
    name, before = (_table(one, "method").get("name", MethodConfig.name) for one in (merged, table))
    if name == before:
        return "", []
    from splitfl.methods.registry import METHODS  # takes torch along
    from splitfl.methods.settings import SHARED, reads

    its = partial({"method": {"name": name}, "auto": merged.get("auto", {})}, ("method", "auto"))
    plain = as_dict(partial({}, ("method", "adapter")))
    old = key_types(METHODS[before].settings) if before in METHODS else {}
    found = [
        f"method.{key}" for key in _table(table, "method") if key in old and key not in key_values(its.method)
    ]
    for setting in set(SHARED) - reads(its):
        name_of_table, _, key = setting.partition(".")
        default = plain[name_of_table][key]
        value = _table(table, name_of_table).get(key, default)
        if (default | value if isinstance(value, dict) else value) != default:
            found.append(setting)
    return f"the method {name!r} does not read them", sorted(found)


def _keys_of_others(table: Mapping[str, Any]) -> set[str]:
    """The keys of [method] that only other methods have than those that the table names."""
    from splitfl.methods.registry import METHODS  # takes torch along

    own = {_table(table, "method").get("name", MethodConfig.name), *auto_methods(table)}
    keys = {name: set(key_types(spec.settings)) for name, spec in METHODS.items()}
    return set[str]().union(*keys.values()).difference(*(keys[name] for name in own & keys.keys()))


def _rates(table: Mapping[str, Any], overrides: list[str]) -> tuple[str, list[str]]:
    """The rates of a link that overrides make a scenario or a trace, which has rates of its own."""
    if not _asked(overrides) & {"link.scenario", "link.trace"}:
        return "", []
    rates = [f"link.{key}" for key in ("up", "down") if key in _table(table, "link")]
    return "a link.scenario or link.trace has rates of its own", rates


def _asked(overrides: Iterable[str]) -> set[str]:
    return {_path(one) for one in overrides}


def _path(override: str) -> str:
    """The dotted path of the setting that an override names."""
    return override.partition("=")[0].strip()


def _table(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """The table of this name; empty for what is none, which is refused later on."""
    found = table.get(name)
    return found if isinstance(found, dict) else {}


def _without(table: Any, name: str, settings: Iterable[str]) -> Any:
    """A table without those of these settings that are its own."""
    if not isinstance(table, dict):
        return table
    return {key: value for key, value in table.items() if f"{name}.{key}" not in settings}
