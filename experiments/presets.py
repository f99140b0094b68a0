"""The experiments that come with splitfl, by name."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from splitfl.config import RunConfig, nearest
from splitfl.config.experiment_file import as_dict, from_dict, overridden, read_tables
from splitfl.core.errors import ConfigError
from splitfl.run_folder.trackers import registry as trackers
from splitfl.transport.registry import check_settings

FOLDER = Path(__file__).parent / "presets"
_WITHOUT_TORCH: Final = ("federation", "link", "tracking", "train", "transport")


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
    name: str, overrides: Iterable[str], say: Callable[[str], None] | None = None
) -> tuple[str, RunConfig]:
    """The short name and settings of a preset, or of a TOML or JSON file at that path.

    Where overrides choose another method, or a link that is a scenario or a trace, what these do not read
    of the preset or the file is left out, and `say` is told what; all that remains is obeyed or refused.
    """
    short, path = _named(name)
    chosen = list(overrides)
    table = read_tables(path)
    for what, names in (_unread(table, chosen), _rates(table, chosen)):
        table = {key: _without(value, key, names) for key, value in table.items()}
        if names and say is not None:
            say(f"left out of {short}, since {what}: {', '.join(names)}")
    config = from_dict(table, chosen)
    check_settings(config.transport)
    trackers.chosen(config.tracking)
    return short, config


def without_learning(name: str, overrides: Iterable[str]) -> RunConfig:
    """What `find` gives, as far as it can be had without torch: who takes part, the link, the
    transport and the trackers.

    All other settings are the defaults, and are not looked at.
    """
    _, path = _named(name)
    chosen = list(overrides)
    table = read_tables(path)
    _, rates = _rates(table, chosen)
    table = overridden({key: _without(value, key, rates) for key, value in table.items()}, chosen)
    config = from_dict({key: table[key] for key in _WITHOUT_TORCH if key in table})
    check_settings(config.transport)
    trackers.chosen(config.tracking)
    return config


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


def _rates(table: Mapping[str, Any], overrides: list[str]) -> tuple[str, list[str]]:
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
