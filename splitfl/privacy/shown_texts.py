"""Texts beside what attacks recovered of them, as a file in the run's folder."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from splitfl.core.checkpoint import write_whole
from splitfl.core.errors import ConfigError
from splitfl.core.json_text import dumps
from splitfl.privacy.observation import FOLDER

SHOWN_TEXTS: Final = 10
"""Texts that are written down for each attack."""


@dataclass(frozen=True, kw_only=True)
class ShownText:
    """The tokens of a text with what an attack recovered of them, "" for none."""

    attack: str
    round: int
    client: int
    true: tuple[str, ...]
    recovered: tuple[str, ...]


def write_texts(folder: Path, texts: Sequence[ShownText]) -> None:
    """Writes these texts into the run's folder, in place of older ones of the same attacks."""
    new = {text.attack for text in texts}
    kept = [text for text in read_texts(folder) if text.attack not in new]
    rows = [asdict(text) for text in (*kept, *texts)]
    write_whole(_path(folder), (dumps(rows, indent=1) + "\n").encode())


def read_texts(folder: Path) -> list[ShownText]:
    """The texts in the run's folder, none without the file; raises ConfigError if it is damaged."""
    path = _path(folder)
    if not path.exists():
        return []
    try:
        return [_text(row) for row in json.loads(path.read_bytes())]
    except (ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{path} is damaged: {error}") from None


def _text(row: dict[str, object]) -> ShownText:
    true, recovered = row["true"], row["recovered"]
    if not isinstance(true, list) or not isinstance(recovered, list) or len(true) != len(recovered):
        raise ValueError("a text must have as many recovered tokens as true ones")
    return ShownText(
        attack=str(row["attack"]),
        round=int(str(row["round"])),
        client=int(str(row["client"])),
        true=tuple(map(str, true)),
        recovered=tuple(map(str, recovered)),
    )


def _path(folder: Path) -> Path:
    return folder / FOLDER / "texts.json"
