"""The experiment presets shipped with splitfl."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from splitfl.config import RunConfig, nearest
from splitfl.core.errors import ConfigError
from splitfl.setup.experiment_file import overridden, partial, read_tables
from splitfl.setup.overriding import inapplicable, resolved_settings, without
from splitfl.setup.plugins import PLUGINS

FOLDER = Path(__file__).parent / "presets"
_WITHOUT_TORCH: Final = ("federation", "link", "tracking", "train", "transport")


def names() -> list[str]:
    """All preset names; those in a subfolder have its name as a prefix."""
    return sorted(path.relative_to(FOLDER).with_suffix("").as_posix() for path in FOLDER.rglob("*.toml"))


def about(name: str) -> str:
    """A preset's description: the comment at its top."""
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

    If overrides choose another plug-in (method, transport, adapter kind, link or tracker), settings of the
    preset or file that it does not have are dropped and reported by `say`; all others are applied or
    refused. Overrides `for_several` methods are applied to the methods that have their keys.
    """
    short, path = _named(name)
    chosen = list(overrides)
    return short, resolved_settings(read_tables(path), chosen, say, short, for_several=for_several)


def tables(name: str) -> tuple[str, dict[str, Any]]:
    """The short name and the tables of a preset, or of a file at that path, as written."""
    short, path = _named(name)
    return short, read_tables(path)


def without_learning(name: str, overrides: Iterable[str]) -> RunConfig:
    """The settings of `find` that need no torch: federation, link, tracking, train and transport.

    All other settings have their defaults and are not checked.
    """
    _, path = _named(name)
    chosen = list(overrides)
    table = read_tables(path)
    for _, names in inapplicable(table, chosen, [path for path in PLUGINS if path in _WITHOUT_TORCH]):
        table = without(table, names)
    return partial(overridden(table, chosen), _WITHOUT_TORCH)


def _named(name: str) -> tuple[str, Path]:
    """The short name and the file of a preset or path; raises ConfigError for an unknown name."""
    if name in names():
        return Path(name).name, FOLDER / f"{name}.toml"
    path = Path(name)
    if path.suffix.lower() in (".toml", ".json"):
        return (path.parent.name if path.name == "config.json" else path.stem), path
    known = ", ".join(names())
    raise ConfigError(f"unknown preset {name!r};{nearest(name, names())} have {known}, or give a .toml file")
