"""The page of radio scenarios: those shipped with `channel`, and every key of a scenario's file."""

from importlib.resources import files

from channel.scenario.load import Scenario, load, names
from experiments.docs_pages.markdown import code, fence, heading
from experiments.docs_pages.settings_table import about, keys_table, nested


def page() -> str:
    """The whole page."""
    text = "# Radio scenarios\n\n`link.scenario` chooses one; `splitfl channel show NAME` draws it.\n\n"
    text += "".join(_scenario(name) for name in names())
    text += heading(2, "Keys of a scenario's file", "scenario-keys")
    return text + "\n".join(_table(path, settings) for path, settings in nested(Scenario()))


def _scenario(name: str) -> str:
    toml = files("channel.scenario").joinpath(f"{name}.toml").read_text(encoding="utf-8")
    return heading(2, code(name), f"scenario-{name}") + f"{load(name).about}\n\n" + fence(toml, "toml") + "\n"


def _table(path: str, settings: object) -> str:
    title = f"`[{path}]`" if path else "Outside any table"
    return heading(3, title) + f"{about(settings)}\n\n{keys_table(settings)}"
