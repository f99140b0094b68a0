"""The experiments that come with splitfl, by name."""

import tomllib
from collections.abc import Iterable
from pathlib import Path

from splitfl.config import RunConfig, nearest
from splitfl.errors import ConfigError
from splitfl.experiment_file import as_dict, from_dict, load

FOLDER = Path(__file__).parent / "presets"


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
    if name in names():
        return Path(name).name, _with_overrides(FOLDER / f"{name}.toml", list(overrides))
    path = Path(name)
    if path.suffix.lower() in (".toml", ".json"):
        short = path.parent.name if path.name == "config.json" else path.stem
        return short, load(path, overrides)
    known = ", ".join(names())
    raise ConfigError(f"unknown preset {name!r};{nearest(name, names())} have {known}, or give a .toml file")


def _with_overrides(path: Path, overrides: list[str]) -> RunConfig:
    """A preset's settings, but for those of its own that what is asked for here does not read.

    Another method does not read some, and a link that is a scenario or a trace has no rates of its own.
    """
    table = tomllib.loads(path.read_text(encoding="utf-8"))
    asked = {one.partition("=")[0].strip() for one in overrides}
    if asked & {"link.scenario", "link.trace"}:
        table["link"] = {
            key: value for key, value in table.get("link", {}).items() if key not in ("up", "down")
        }
    chosen = [one for one in overrides if one.partition("=")[0].strip() == "method.name"]
    if not chosen:
        return from_dict(table, overrides)
    from splitfl.methods.registry import without_unread  # takes torch along

    own = [one for one in overrides if one.partition("=")[0].strip() in ("link.scenario", "link.trace")]
    return from_dict(as_dict(without_unread(from_dict(table, [*chosen, *own]))), overrides)
