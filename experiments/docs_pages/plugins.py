"""One page for each kind of plug-in, listing the fields of every registered specification."""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from experiments.docs_pages.markdown import code, codes, fence, heading, table
from experiments.docs_pages.settings_table import keys_table, nested
from experiments.specifications import SPECIFICATIONS

REGISTRIES: Final[Mapping[str, tuple[str, str, Mapping[str, Any]]]] = {
    "methods": ("Fine-tuning methods", "`method.name` chooses one", SPECIFICATIONS["methods"]),
    "adapters": (
        "Adapter kinds",
        "`adapter.head.kind` and `adapter.body.kind` choose one",
        SPECIFICATIONS["adapters"],
    ),
    "aggregators": ("Aggregators", "`federation.aggregator` chooses one", SPECIFICATIONS["aggregators"]),
    "codecs": (
        "Codecs",
        "the keys of `[codec]` choose a chain of them",
        SPECIFICATIONS["codecs"],
    ),
    "links": ("Links", "the keys of `[link]` choose one", SPECIFICATIONS["links"]),
    "transports": ("Transports", "`transport.name` chooses one", SPECIFICATIONS["transports"]),
    "trackers": ("Experiment trackers", "`tracking.to` chooses any number", SPECIFICATIONS["trackers"]),
    "attacks": ("Attacks", "`privacy.probes` chooses any number", SPECIFICATIONS["attacks"]),
    "tasks": ("Tasks", "`task.name` chooses one", SPECIFICATIONS["tasks"]),
}
"""By the argument of `splitfl list`: the page's title, the choosing setting, and the entries."""


def pages() -> dict[str, str]:
    """Each page by its file name."""
    return {f"{what}.md": page(what) for what in REGISTRIES}


def page(what: str) -> str:
    """The page of one kind of plug-in."""
    title, chosen_by, entries = REGISTRIES[what]
    text = f"# {title}\n\nEntries of `splitfl list {what}`; {chosen_by}.\n\n"
    text += table(("name", "description"), [(_link(what, name), one.about) for name, one in entries.items()])
    return text + "".join("\n" + _section(what, name, one) for name, one in entries.items())


def _link(what: str, name: str) -> str:
    return f"[`{name}`](#{_label(what, name)})"


def _label(what: str, name: str) -> str:
    return f"{what}-{name}".replace("_", "-")


def _section(what: str, name: str, spec: Any) -> str:
    fields = list(_fields(spec))
    rows = [(label, text) for label, value in fields if (text := shown(value))]
    text = f"{heading(2, code(name), _label(what, name))}{spec.about}\n\n"
    text += table(("field", "value"), rows) + "\n" if rows else ""
    if isinstance(settings := getattr(spec, "settings", None), type):  # a plug-in's own table
        text += "".join(f"{keys_table(table)}\n" for _, table in nested(settings()))
    citations = [one for _, value in fields for one in _citations(value)]
    return text + (_collapsed("BibTeX", fence("\n\n".join(citations), "bibtex")) if citations else "")


def _collapsed(title: str, text: str) -> str:
    return f"`````{{admonition}} {title}\n:collapsible: closed\n\n{text}`````\n"


def _fields(spec: Any) -> Iterator[tuple[str, Any]]:
    """Each field but `about` as text; fields that are True or a reason are shown as such."""
    hints = typing.get_type_hints(type(spec))
    for field in dataclasses.fields(spec):
        value = getattr(spec, field.name)
        if isinstance(value, str) and Literal[True] in typing.get_args(hints[field.name]):
            value = f"no: {value}"
        if field.name != "about":
            yield field.name.replace("_", " "), value


def shown(value: object) -> str:
    """A field's value as text; "" for functions, citations and empty values."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, type):
        return code(value.__name__)
    if isinstance(value, str):
        return "" if _citations(value) else value
    if isinstance(value, Mapping):
        return "<br>".join(f"`{key}`: {text}" for key, one in value.items() if (text := shown(one)))
    if isinstance(value, tuple | list):
        return _sequence(value)
    if isinstance(value, frozenset | set):
        return codes(sorted(value))
    if dataclasses.is_dataclass(value):
        return "; ".join(f"{label}: {text}" for label, one in _fields(value) if (text := shown(one)))
    return str(value) if isinstance(value, int | float) else ""


def _sequence(value: tuple[Any, ...] | list[Any]) -> str:
    if all(isinstance(one, str) for one in value):
        return codes(one for one in value if not _citations(one))
    if value and all(isinstance(one, type) for one in value):
        return " answered by ".join(map(shown, value))
    return ", ".join(text for one in value if (text := shown(one)))


def _citations(value: object) -> list[str]:
    found = value if isinstance(value, tuple) else (value,)
    return [one for one in found if isinstance(one, str) and one.startswith("@")]
