"""The code in the pages of the documentation: Python, files with a caption, and commands."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
DOCS: Final = ROOT / "docs"

_FENCE: Final = re.compile(
    r"^```(?:\{code-block\} )?(\w+)\n(?::caption: (\S+)\n\n)?(.*?)^```$", re.DOTALL | re.MULTILINE
)
_PROMPT: Final = re.compile(r"`((?:sudo )?splitfl [^`]*)`")


@dataclass(frozen=True)
class Page:
    """One page: its name below `docs`, and what is in its blocks in their order."""

    name: str
    python: tuple[str, ...]
    files: dict[str, str]
    commands: tuple[str, ...]
    inline: tuple[str, ...]


def pages() -> list[Page]:
    """All pages that are written by hand."""
    paths = sorted(DOCS.rglob("*.md"))
    return [_read(path) for path in paths if path.relative_to(DOCS).parts[0] != "reference"]


def _read(path: Path) -> Page:
    text = path.read_text(encoding="utf-8")
    blocks = [(language, caption, body) for language, caption, body in _FENCE.findall(text)]
    shell = "".join(body for language, _, body in blocks if language == "sh").replace("\\\n", " ")
    return Page(
        name=path.relative_to(DOCS).with_suffix("").as_posix(),
        python=tuple(body for language, caption, body in blocks if language == "python" and not caption),
        files={caption: body for _, caption, body in blocks if caption},
        commands=tuple(line.strip() for line in shell.splitlines() if line.strip()),
        inline=tuple(_PROMPT.findall(_FENCE.sub("", text))),
    )
