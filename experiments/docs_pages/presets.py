"""The page of the presets: the description and settings of each."""

from experiments.docs_pages.markdown import code, fence, heading
from experiments.presets import FOLDER, about, names


def page() -> str:
    """The whole page."""
    text = "# Presets\n\n`splitfl run NAME` runs one; [settings](settings.md) has every key.\n\n"
    return text + "\n".join(_section(name) for name in names())


def _section(name: str) -> str:
    toml = (FOLDER / f"{name}.toml").read_text(encoding="utf-8").splitlines()
    body = "\n".join(line for line in toml if not line.startswith("#"))
    return (
        heading(2, code(name), f"preset-{name.replace('/', '-')}")
        + f"{about(name)}\n\n"
        + fence(body.strip(), "toml")
    )
