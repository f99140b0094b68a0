"""The experiments that come with splitfl, by name."""

from collections.abc import Iterable
from pathlib import Path

from splitfl.config import RunConfig, nearest
from splitfl.errors import ConfigError
from splitfl.experiment_file import load

FOLDER = Path(__file__).parent / "presets"


def names() -> list[str]:
    """All presets."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


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
        return name, load(FOLDER / f"{name}.toml", overrides)
    path = Path(name)
    if path.suffix in (".toml", ".json"):
        short = path.parent.name if path.name == "config.json" else path.stem
        return short, load(path, overrides)
    known = ", ".join(names())
    raise ConfigError(f"unknown preset {name!r};{nearest(name, names())} have {known}, or give a .toml file")
