"""The experiments that come with splitfl, by name."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from splitfl.config import RunConfig, nearest
from splitfl.config.experiment_file import as_dict, from_dict, load, overridden, read_tables
from splitfl.core.errors import ConfigError
from splitfl.transport.registry import check_settings

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


def find(name: str, overrides: Iterable[str]) -> tuple[str, RunConfig]:
    """The short name and settings of a preset, or of a TOML or JSON file at that path."""
    short, path = _named(name)
    chosen = list(overrides)
    config = _with_overrides(path, chosen) if name in names() else load(path, chosen)
    check_settings(config.transport)
    return short, config


def without_learning(name: str, overrides: Iterable[str]) -> RunConfig:
    """What `find` gives, as far as it can be had without torch: who takes part, the link and the transport.

    All other settings are the defaults, and are not looked at.
    """
    _, path = _named(name)
    chosen = list(overrides)
    table = read_tables(path)
    table = overridden(_without_rates(table, chosen) if name in names() else table, chosen)
    config = from_dict({key: table[key] for key in _WITHOUT_TORCH if key in table})
    check_settings(config.transport)
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


def _with_overrides(path: Path, overrides: list[str]) -> RunConfig:
    """A preset's settings, but for those of its own that what is asked for here does not read.

    Another method does not read some, and a link that is a scenario or a trace has no rates of its own.
    """
    table = _without_rates(read_tables(path), overrides)
    chosen = [one for one in overrides if one.partition("=")[0].strip() == "method.name"]
    if not chosen:
        return from_dict(table, overrides)
    from splitfl.methods.registry import without_unread  # takes torch along

    own = [one for one in overrides if one.partition("=")[0].strip() in ("link.scenario", "link.trace")]
    return from_dict(as_dict(without_unread(from_dict(table, [*chosen, *own]))), overrides)


def _without_rates(table: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """A link that is a scenario or a trace has no rates of its own."""
    asked = {one.partition("=")[0].strip() for one in overrides}
    if not asked & {"link.scenario", "link.trace"}:
        return table
    link = {key: value for key, value in table.get("link", {}).items() if key not in ("up", "down")}
    return {**table, "link": link}
