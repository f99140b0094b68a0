"""All generated pages of `docs/reference`, by file name, and the index that lists them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from experiments.docs_pages import commands, plugins, presets, python_api, scenarios, settings

_INDEX: Final = """# Reference

Generated when the documentation is built, from the code and from the plug-ins that are installed.
"""
_SECTION: Final = """
```{toctree}
:maxdepth: 1
:caption: %s

%s
```
"""


def pages() -> dict[str, str]:
    """The text of each page by its file name, `index.md` included."""
    experiment = {
        "commands.md": commands.page(),
        "settings.md": settings.page(),
        "presets.md": presets.page(),
        "scenarios.md": scenarios.page(),
    }
    sections = {
        "Experiments": experiment,
        "Plug-ins": plugins.pages() | {"/families.md": ""},
        "Python": python_api.pages(),
    }
    index = _INDEX + "".join(_SECTION % (caption, _listed(found)) for caption, found in sections.items())
    written = {name: text for found in sections.values() for name, text in found.items() if text}
    return {"index.md": index, **written}


def write(folder: Path) -> None:
    """Writes the pages that differ from the folder's, and removes obsolete ones."""
    folder.mkdir(parents=True, exist_ok=True)
    found = pages()
    for path in folder.glob("*.md"):
        if path.name not in found:
            path.unlink()
    for name, text in found.items():
        path = folder / name
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _listed(found: Iterable[str]) -> str:
    return "\n".join(name.removesuffix(".md") for name in found)
